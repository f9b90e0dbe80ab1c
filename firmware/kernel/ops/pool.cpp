// AVERAGE_POOL_2D and MAX_POOL_2D: windows without weights, input and output in one quantisation.
#include "kernel/ops/window.h"

namespace kilotune {
namespace {

// The part of one axis's window that lies inside the input: [begin, end), never empty.
struct Span {
  int32_t begin, end;
  Span(const Axis& a, int32_t o)
      : begin(o * a.stride - a.pad < 0 ? 0 : o * a.stride - a.pad),
        end(o * a.stride - a.pad + a.size < a.in ? o * a.stride - a.pad + a.size : a.in) {}
  [[nodiscard]] int32_t count() const { return end - begin; }
};

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const Window w = window_of(op, x, y);
  const bool good = window_valid(w) && w.y.dilation == 1 && w.x.dilation == 1 &&
                    w.taps() <= 65535 && x.channels == y.channels && only_passes_gradients(op) &&
                    (x.gradient != y.gradient || !op.has(kBackwardToInput)) &&
                    backward_scratch_holds(model, op, 4ull * x.channels);
  return good ? Status::ok : Status::bad_image;
}

// Calls combine(position of the input) for each position in the window.
template <typename Combine>
void over(const Window& w, const Span& sy, const Span& sx, const Combine& combine) {
  for (int32_t iy = sy.begin; iy < sy.end; ++iy) {
    for (int32_t ix = sx.begin; ix < sx.end; ++ix) combine(static_cast<uint32_t>(iy * w.x.in + ix));
  }
}

template <typename Value>
void forward_with(const Execution& run, const Op& op, bool training, const Value& value) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const Window w = window_of(op, xt, yt);
  const int8_t* x = run.data(xt);
  Outputs outputs(run, op, yt, training);
  for (int32_t oy = 0; oy < w.y.out; ++oy) {
    for (int32_t ox = 0; ox < w.x.out; ++ox) {
      for (uint32_t c = 0; c < yt.channels; ++c)
        outputs.put_q(value(w, Span(w.y, oy), Span(w.x, ox), x + c, xt.channels));
    }
  }
}

void forward_average(const Execution& run, const Op& op, bool training) {
  forward_with(run, op, training,
               [](const Window& w, Span sy, Span sx, const int8_t* x, uint32_t stride) {
                 int32_t sum = 0;
                 over(w, sy, sx, [&](uint32_t p) { sum += x[p * stride]; });
                 const int32_t n = sy.count() * sx.count();
                 return (sum > 0 ? sum + n / 2 : sum - n / 2) / n;
               });
}

void forward_max(const Execution& run, const Op& op, bool training) {
  forward_with(
      run, op, training, [](const Window& w, Span sy, Span sx, const int8_t* x, uint32_t stride) {
        int32_t largest = -128;
        over(w, sy, sx,
             [&](uint32_t p) { largest = x[p * stride] > largest ? x[p * stride] : largest; });
        return largest;
      });
}

// Each output shares its gradient among the inputs that it is the mean of; the unit of the input's
// gradient includes 1 / the largest count. Shares are larger in windows that the border cuts.
void backward_average(const Execution& run, const Op& op, Step&) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const Window w = window_of(op, xt, yt);
  const int32_t largest =
      (w.y.size < w.y.in ? w.y.size : w.y.in) * (w.x.size < w.x.in ? w.x.size : w.x.in);
  // The shares of a position sum to less than 4 * largest: times 2^15 * 2^fraction, still int32.
  const int bits = magnitude_bits(largest);
  const int fraction = bits < 13 ? 13 - bits : 0;
  over_sources(
      run, op, w, align_gradient(run, yt, 0) - fraction,
      [&](int32_t, int32_t, int32_t oy, int32_t ox, int32_t, const int16_t* m, int32_t* values) {
        const int32_t n = Span(w.y, oy).count() * Span(w.x, ox).count();
        const int32_t share = ((largest << fraction) + n / 2) / n;
        for (uint32_t c = 0; c < xt.channels; ++c)
          values[c] = add_wrapping(values[c], m[c] * share);
      });
}

// The gradient goes to the first of the largest inputs of each window.
void backward_max(const Execution& run, const Op& op, Step&) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const Window w = window_of(op, xt, yt);
  const int8_t* x = run.data(xt);
  over_sources(run, op, w, align_gradient(run, yt, 0),
               [&](int32_t iy, int32_t ix, int32_t oy, int32_t ox, int32_t, const int16_t* m,
                   int32_t* values) {
                 const uint32_t here = static_cast<uint32_t>(iy * w.x.in + ix);
                 for (uint32_t c = 0; c < xt.channels; ++c) {
                   if (m[c] == 0) continue;
                   const int8_t mine = x[here * xt.channels + c];
                   bool first = true;
                   over(w, Span(w.y, oy), Span(w.x, ox), [&](uint32_t p) {
                     const int8_t other = x[p * xt.channels + c];
                     if (other > mine || (other == mine && p < here)) first = false;
                   });
                   if (first) values[c] = add_wrapping(values[c], m[c]);
                 }
               });
}

}  // namespace

const OpKernel kAveragePool2D = {5, validate, forward_average, backward_average};
const OpKernel kMaxPool2D = {6, validate, forward_max, backward_max};

}  // namespace kilotune
