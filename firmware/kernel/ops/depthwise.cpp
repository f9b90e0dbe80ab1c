// DEPTHWISE_CONV_2D: each output channel sees one input channel; `multiplier` of them see the same.
#include "kernel/ops/depthwise.h"

#include "kernel/ops/pass_mask.h"
#include "kernel/ops/triples.h"
#include "kernel/ops/update.h"
#include "kernel/ops/window.h"

namespace kilotune {
namespace {

constexpr uint32_t kMultiplierWord = 4;  // output channels per input channel
constexpr uint32_t kTriples = 1u << 31;  // of that word: gradients go back in triples
constexpr uint32_t kRowsWord = 5;        // arena offset of the sums and rows of one plane

uint32_t multiplier_of(const Op& op) { return op.words[kMultiplierWord] & ~kTriples; }
bool in_triples(const Op& op) { return (op.words[kMultiplierWord] & kTriples) != 0; }

// The plane of one channel, its longer side along rows: work done once per row is done less often.
struct Plane {
  Axis outer, inner;
  uint32_t x_outer, x_inner;  // steps in the input, the weights and the output
  uint32_t w_outer, w_inner;
  uint32_t y_outer, y_inner;
  uint32_t pitch;  // int16 per input row, padded on both sides and at the end for the last taps

  Plane(const Window& w, uint32_t in, uint32_t out) {
    const bool upright = w.y.out > w.x.out;
    outer = upright ? w.x : w.y;
    inner = upright ? w.y : w.x;
    const uint32_t x_row = static_cast<uint32_t>(w.x.in) * in;
    const uint32_t w_row = static_cast<uint32_t>(w.x.size) * out;
    const uint32_t y_row = static_cast<uint32_t>(w.x.out) * out;
    x_outer = upright ? in : x_row;
    x_inner = upright ? x_row : in;
    w_outer = upright ? out : w_row;
    w_inner = upright ? w_row : out;
    y_outer = upright ? out : y_row;
    y_inner = upright ? y_row : out;
    const int32_t reach = (inner.out - 1) * inner.stride + (inner.size - 1) * inner.dilation;
    pitch = (static_cast<uint32_t>(reach) + kTapColumns + 1) & ~1u;
  }
  [[nodiscard]] uint64_t scratch_bytes() const {
    return 4ull * static_cast<uint32_t>(inner.out) +
           2ull * pitch * static_cast<uint32_t>(outer.size);
  }
};

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const Window w = window_of(op, x, y);
  if (!window_valid(w)) return Status::bad_image;
  if (uint64_t{x.channels} * multiplier_of(op) != y.channels) return Status::bad_image;
  const uint64_t taps = static_cast<uint64_t>(w.taps());
  const Status status = check_layer(model, op, taps * y.channels, products_of(taps));
  if (status != Status::ok) return status;
  const Plane plane(w, x.channels, y.channels);
  if (!scratch_holds(model, op.words[kRowsWord], plane.scratch_bytes())) return Status::bad_image;
  const bool in_place = x.gradient == y.gradient && op.has(kBackwardToInput);
  if (in_place && (x.height != y.height || x.width != y.width || x.channels != y.channels))
    return Status::bad_image;
  uint64_t scratch = window_scratch_bytes(w, x, y);
  if (in_triples(op)) {
    if (multiplier_of(op) != 1 || !fits_triples(w, x.channels)) return Status::bad_image;
    const uint64_t needed = triples_bytes(w, x.channels);
    scratch = needed > scratch ? needed : scratch;
  }
  return backward_scratch_holds(model, op, scratch) ? Status::ok : Status::bad_image;
}

// Row `at` of a channel's plane as int16; outside the input it is the zero point.
void fill_row(const Plane& plane, const int8_t* x, int32_t zero_point, int32_t at, int16_t* row) {
  const int16_t zero = static_cast<int16_t>(zero_point);
  const int16_t* const end = row + plane.pitch;
  if (at >= 0 && at < plane.outer.in) {
    for (int32_t i = 0; i < plane.inner.pad; ++i) *row++ = zero;
    const int32_t room = static_cast<int32_t>(end - row);
    int32_t n = plane.inner.in < room ? plane.inner.in : room;
    x += static_cast<uint32_t>(at) * plane.x_outer;
    const uint32_t step = plane.x_inner;
    for (; n >= 4; n -= 4, row += 4) {
      row[0] = *x;
      x += step;
      row[1] = *x;
      x += step;
      row[2] = *x;
      x += step;
      row[3] = *x;
      x += step;
    }
    for (; n > 0; --n, x += step) *row++ = *x;
  }
  while (row < end) *row++ = zero;
}

// One channel's window in blocks of taps.
class ChannelWindow {
 public:
  ChannelWindow(const Plane& plane, const int8_t* weights)
      : plane_(plane),
        weights_(weights),
        rows_(static_cast<uint32_t>(plane.outer.size)),
        columns_(static_cast<uint32_t>(plane.inner.size)),
        widest_(plane.inner.dilation == 1 ? kTapColumns : 1),
        one_block_(rows_ <= kTapRows && columns_ <= widest_) {
    if (one_block_) load(0, 0);
  }
  // Adds to the sums of one row of outputs. Row k of the window lies in the ring at (first + k) %
  // rows.
  void add(const int16_t* ring, uint32_t first, int32_t* sums) {
    const uint32_t stride = static_cast<uint32_t>(plane_.inner.stride);
    const uint32_t n = static_cast<uint32_t>(plane_.inner.out);
    const uint32_t step = widest_ * static_cast<uint32_t>(plane_.inner.dilation);
    for (uint32_t ky = 0; ky < rows_; ky += kTapRows) {
      const int16_t* x[kTapRows] = {};
      for (uint32_t r = 0; r < kTapRows && ky + r < rows_; ++r) {
        const uint32_t at = first + ky + r;
        x[r] = ring + (at < rows_ ? at : at - rows_) * plane_.pitch;
      }
      for (uint32_t kx = 0; kx < columns_; kx += widest_) {
        if (!one_block_) load(ky, kx);
        add_taps(block_, x, stride, sums, n);
        for (const int16_t*& row : x) row += row == nullptr ? 0 : step;
      }
    }
  }

 private:
  void load(uint32_t ky, uint32_t kx) {
    block_ = {};
    block_.rows = rows_ - ky < kTapRows ? rows_ - ky : kTapRows;
    block_.columns = columns_ - kx < widest_ ? columns_ - kx : widest_;
    for (uint32_t r = 0; r < block_.rows; ++r) {
      const int8_t* w = weights_ + (ky + r) * plane_.w_outer + kx * plane_.w_inner;
      for (uint32_t c = 0; c < block_.columns; ++c, w += plane_.w_inner) block_.weights[r][c] = *w;
    }
  }

  const Plane& plane_;
  const int8_t* weights_;
  uint32_t rows_, columns_, widest_;
  bool one_block_;
  TapBlock block_ = {};
};

// Channel after channel: weights and multiplier are the same along a plane.
void forward(const Execution& run, const Op& op, bool training) {
  const Model& model = *run.model;
  const Tensor xt = model.tensor(op.input), yt = model.tensor(op.output);
  const Plane plane(window_of(op, xt, yt), xt.channels, yt.channels);
  const Axis& outer = plane.outer;
  const uint32_t multiplier = multiplier_of(op), n = static_cast<uint32_t>(plane.inner.out);
  const int8_t* weights = reinterpret_cast<const int8_t*>(model.at(op.weights));
  int32_t* sums = reinterpret_cast<int32_t*>(run.arena + op.words[kRowsWord]);
  int16_t* ring = reinterpret_cast<int16_t*>(sums + n);
  const uint32_t size = static_cast<uint32_t>(outer.size);
  const Biases bias(run, op);
  const Scaling scaling(run, op);
  // Rows of the window stay in the ring as long as the next window shares them.
  const bool shares = outer.dilation == 1 && outer.stride < outer.size;
  for (uint32_t o = 0; o < yt.channels; ++o) {
    const int8_t* x = run.data(xt) + o / multiplier;
    int8_t* y = run.data(yt) + o;
    const int32_t b = bias.at(o);
    const ChannelFinish finish = {scaling.multiplier(o), scaling.shift(o), yt.zero_point,
                                  op.act_min, op.act_max};
    ChannelWindow window(plane, weights + o);
    uint32_t first = 0;
    for (int32_t oy = 0; oy < outer.out; ++oy, y += plane.y_outer) {
      const int32_t top = oy * outer.stride - outer.pad;
      const bool again = shares && oy > 0;
      if (again) first = (first + static_cast<uint32_t>(outer.stride)) % size;
      for (int32_t k = again ? outer.size - outer.stride : 0; k < outer.size; ++k) {
        const uint32_t at = (first + static_cast<uint32_t>(k)) % size;
        fill_row(plane, x, xt.zero_point, top + k * outer.dilation, ring + at * plane.pitch);
      }
      for (uint32_t k = 0; k < n; ++k) sums[k] = b;
      window.add(ring, first, sums);
      finish_channel(finish, sums, n, y, plane.y_inner);
    }
  }
  uint8_t* mask = run.recorded_mask(op, yt, training);
  if (mask != nullptr)
    record_passes(run.data(yt), yt.positions(), yt.channels, op.act_min, op.act_max, mask);
}

// values[i] += the products of the `multiplier` outputs that see input i.
void add_grouped(const int8_t* w, const int16_t* m, int32_t* values, uint32_t n,
                 uint32_t multiplier) {
  for (uint32_t i = 0; i < n; ++i) {
    for (uint32_t k = 0; k < multiplier; ++k, ++w, ++m)
      values[i] = add_wrapping(values[i], *m * *w);
  }
}

void backward(const Execution& run, const Op& op, Step& step) {
  const Model& model = *run.model;
  const Tensor xt = model.tensor(op.input), yt = model.tensor(op.output);
  const OpTraining plan = model.op_training(op);
  if (op.has(kBiasTrained)) update_bias_positions(run, op, plan, yt, step);
  if (!op.has(kBackwardToInput)) return;
  const int8_t* weights = reinterpret_cast<const int8_t*>(model.at(op.weights));
  const uint32_t in = xt.channels, out = yt.channels, multiplier = multiplier_of(op);
  const Window w = window_of(op, xt, yt);
  const int exponent = align_gradient(run, yt, plan.rescale);
  if (in_triples(op) && backward_in_triples(run, op, w, exponent, weights)) return;
  window_backward(run, op, w, exponent,
                  [&](int32_t, int32_t, const Axis::Sources& vertical,
                      const Axis::Sources& horizontal, const GradientRows& rows, int32_t* values) {
                    const uint32_t w_step = static_cast<uint32_t>(horizontal.step) * out;
                    const uint32_t m_step = static_cast<uint32_t>(horizontal.output_step) * out;
                    for (int32_t r = 0; r < vertical.count; ++r) {
                      const int32_t tap =
                          (vertical.first + r * vertical.step) * w.x.size + horizontal.first;
                      const int8_t* row = weights + static_cast<uint32_t>(tap) * out;
                      const int16_t* m = rows.mantissas(vertical.output - r * vertical.output_step,
                                                        horizontal.output);
                      for (int32_t c = horizontal.count; c > 0; --c, row += w_step, m -= m_step) {
                        if (multiplier == 1) {
                          add_products(row, m, values, in);
                        } else {
                          add_grouped(row, m, values, in, multiplier);
                        }
                      }
                    }
                  });
}

}  // namespace

const OpKernel kDepthwiseConv2D = {4, validate, forward, backward};

}  // namespace kilotune
