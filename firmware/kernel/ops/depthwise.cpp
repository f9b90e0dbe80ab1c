// DEPTHWISE_CONV_2D: each output channel sees one input channel; `multiplier` of them see the same.
#include "kernel/ops/depthwise.h"

#include "kernel/ops/update.h"
#include "kernel/ops/window.h"

namespace kilotune {
namespace {

constexpr int kMultiplierWord = 4;
constexpr int kPatchWord = 5;   // arena offset of one patch, kNone where no window leaves the input
constexpr uint32_t kBlock = 8;  // channels at once: their accumulators stay at hand

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const Window w = window_of(op, x, y);
  if (!window_valid(w)) return Status::bad_image;
  if (uint64_t{x.channels} * op.words[kMultiplierWord] != y.channels) return Status::bad_image;
  const uint64_t taps = static_cast<uint64_t>(w.taps());
  const Status status = check_layer(model, op, taps * y.channels, taps);
  if (status != Status::ok) return status;
  const bool padded =
      w.y.pad > 0 || w.x.pad > 0 ||
      (w.y.out - 1) * w.y.stride - w.y.pad + (w.y.size - 1) * w.y.dilation >= w.y.in ||
      (w.x.out - 1) * w.x.stride - w.x.pad + (w.x.size - 1) * w.x.dilation >= w.x.in;
  if (padded && !scratch_holds(model, op.words[kPatchWord], taps * x.channels))
    return Status::bad_image;
  const bool in_place = x.gradient == y.gradient && op.has(kBackwardToInput);
  if (in_place && (x.height != y.height || x.width != y.width || x.channels != y.channels))
    return Status::bad_image;
  return backward_scratch_holds(model, op, window_scratch_bytes(w, x, y)) ? Status::ok
                                                                          : Status::bad_image;
}

// Taps of one output position that meet the input, and the zero point where they do not.
struct Taps {
  const Window& w;
  const Tensor& xt;
  const int8_t *x, *weights;
  uint32_t out, multiplier;

  // Sums of channels o to o + n.
  void add(int32_t oy, int32_t ox, uint32_t o, uint32_t n, int32_t* sums) const {
    const int8_t* row = weights + o;
    for (int32_t ky = 0; ky < w.y.size; ++ky) {
      const int32_t iy = oy * w.y.stride - w.y.pad + ky * w.y.dilation;
      const bool inside = iy >= 0 && iy < w.y.in;
      for (int32_t kx = 0; kx < w.x.size; ++kx, row += out) {
        const int32_t ix = ox * w.x.stride - w.x.pad + kx * w.x.dilation;
        if (!inside || ix < 0 || ix >= w.x.in) {
          for (uint32_t k = 0; k < n; ++k) sums[k] += row[k] * xt.zero_point;
          continue;
        }
        const int8_t* in = x + static_cast<uint32_t>(iy * w.x.in + ix) * xt.channels;
        if (multiplier == 1) {
          for (uint32_t k = 0; k < n; ++k) sums[k] += row[k] * in[o + k];
        } else {
          for (uint32_t k = 0; k < n; ++k) sums[k] += row[k] * in[(o + k) / multiplier];
        }
      }
    }
  }
};

// With one output channel for each input channel, four at a time.
void forward_plain(const Execution& run, const Op& op, const Tensor& xt, const Tensor& yt,
                   const Window& w, bool training) {
  const int8_t* weights = reinterpret_cast<const int8_t*>(run.model->at(op.weights));
  const uint32_t n = xt.channels;
  const uint32_t rows = static_cast<uint32_t>(w.y.size), columns = static_cast<uint32_t>(w.x.size);
  const uint32_t column_step = static_cast<uint32_t>(w.x.dilation) * n;
  const int32_t skip =
      (w.y.dilation * w.x.in - w.x.size * w.x.dilation) * static_cast<int32_t>(xt.channels);
  const TapGrid inside = {rows, columns, n, column_step, skip};
  const TapGrid copied = {rows, columns, n, n, 0};
  const Biases bias(run, op);
  const Scaling scaling(run, op);
  Outputs outputs(run, op, yt, training);
  for (int32_t oy = 0; oy < w.y.out; ++oy) {
    const int32_t top = oy * w.y.stride - w.y.pad;
    const bool rows_inside = top >= 0 && top + (w.y.size - 1) * w.y.dilation < w.y.in;
    for (int32_t ox = 0; ox < w.x.out; ++ox) {
      const int32_t left = ox * w.x.stride - w.x.pad;
      const bool in = rows_inside && left >= 0 && left + (w.x.size - 1) * w.x.dilation < w.x.in;
      const int8_t* x = nullptr;
      if (in) {
        x = run.data(xt) + static_cast<uint32_t>(top * w.x.in + left) * n;
      } else {
        int8_t* patch = reinterpret_cast<int8_t*>(run.arena + op.words[kPatchWord]);
        fill_patch(w, xt, run.data(xt), oy, ox, patch);
        x = patch;
      }
      const TapGrid& grid = in ? inside : copied;
      uint32_t o = 0;
      for (; o + 4 <= n; o += 4) {
        int32_t sums[4] = {bias.at(o), bias.at(o + 1), bias.at(o + 2), bias.at(o + 3)};
        depthwise4(weights + o, x + o, grid, sums);
        outputs.put4(scaling, o, sums);
      }
      for (; o < n; ++o) {
        const int8_t *wo = weights + o, *xo = x + o;
        int32_t sum = bias.at(o);
        for (uint32_t r = 0; r < rows; ++r, xo += grid.input_skip) {
          for (uint32_t k = 0; k < columns; ++k, wo += n, xo += grid.input_step) sum += *wo * *xo;
        }
        outputs.put(scaling.apply(o, sum));
      }
    }
  }
}

void forward(const Execution& run, const Op& op, bool training) {
  const Model& model = *run.model;
  const Tensor xt = model.tensor(op.input), yt = model.tensor(op.output);
  const Window w = window_of(op, xt, yt);
  if (op.words[kMultiplierWord] == 1) return forward_plain(run, op, xt, yt, w, training);
  const Taps taps = {w,
                     xt,
                     run.data(xt),
                     reinterpret_cast<const int8_t*>(model.at(op.weights)),
                     yt.channels,
                     op.words[kMultiplierWord]};
  const Biases bias(run, op);
  const Scaling scaling(run, op);
  Outputs outputs(run, op, yt, training);
  for (int32_t oy = 0; oy < w.y.out; ++oy) {
    for (int32_t ox = 0; ox < w.x.out; ++ox) {
      for (uint32_t o = 0; o < yt.channels; o += kBlock) {
        const uint32_t n = yt.channels - o < kBlock ? yt.channels - o : kBlock;
        int32_t sums[kBlock];
        for (uint32_t k = 0; k < n; ++k) sums[k] = bias.at(o + k);
        if (n == kBlock) {
          taps.add(oy, ox, o, kBlock, sums);
        } else {
          taps.add(oy, ox, o, n, sums);
        }
        for (uint32_t k = 0; k < n; ++k) outputs.put(scaling.apply(o + k, sums[k]));
      }
    }
  }
}

void backward(const Execution& run, const Op& op, Step& step) {
  const Model& model = *run.model;
  const Tensor xt = model.tensor(op.input), yt = model.tensor(op.output);
  const OpTraining plan = model.op_training(op);
  if (op.has(kBiasTrained)) update_bias_positions(run, op, plan, yt, step);
  if (!op.has(kBackwardToInput)) return;
  rescale_gradient(run, plan, yt);
  const int8_t* weights = reinterpret_cast<const int8_t*>(model.at(op.weights));
  const uint32_t in = xt.channels, out = yt.channels, multiplier = op.words[kMultiplierWord];
  window_backward(run, op, window_of(op, xt, yt), 0,
                  [&](int32_t, int32_t, int32_t, int32_t, int32_t tap, const int16_t* m, int shift,
                      int32_t* values) {
                    const int8_t* row = weights + static_cast<uint32_t>(tap) * out;
                    for (uint32_t i = 0; i < in; ++i) {
                      for (uint32_t k = 0; k < multiplier; ++k, ++row, ++m) {
                        const int32_t product = align_mantissa(*m, shift) * *row;
                        values[i] = add_wrapping(values[i], product);
                      }
                    }
                  });
}

}  // namespace

const OpKernel kDepthwiseConv2D = {4, validate, forward, backward};

}  // namespace kilotune
