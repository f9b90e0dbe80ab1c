// TRANSPOSE_CONV: each input position adds its window of weights to the output.
#include "kernel/ops/update.h"
#include "kernel/ops/window.h"

namespace kilotune {
namespace {

// The window of the convolution that this one transposes: it leads from the output to the input.
Window window_of_transpose(const Op& op, const Tensor& x, const Tensor& y) {
  return window_of(op, y, x);
}

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const Window w = window_of_transpose(op, x, y);
  if (!window_valid(w) || w.y.dilation != 1 || w.x.dilation != 1) return Status::bad_image;
  const uint64_t fan_in = static_cast<uint64_t>(w.taps()) * x.channels;
  // Inputs less their zero point have 9 bits, not 8.
  const Status status = check_layer(model, op, fan_in * y.channels, products_of(2 * fan_in));
  if (status != Status::ok) return status;
  return backward_scratch_holds(model, op, 4ull * x.channels) ? Status::ok : Status::bad_image;
}

void forward(const Execution& run, const Op& op, bool training) {
  const Model& model = *run.model;
  const Tensor xt = model.tensor(op.input), yt = model.tensor(op.output);
  const Window w = window_of_transpose(op, xt, yt);
  const int8_t* weights = reinterpret_cast<const int8_t*>(model.at(op.weights));
  const uint32_t in = xt.channels, fan_in = static_cast<uint32_t>(w.taps()) * in;
  const Biases bias(run, op);
  const Scaling scaling(run, op);
  Outputs outputs(run, op, yt, training);
  for (int32_t oy = 0; oy < w.y.in; ++oy) {
    for (int32_t ox = 0; ox < w.x.in; ++ox) {
      for (uint32_t o = 0; o < yt.channels; ++o) {
        int32_t acc = bias.at(o);
        for (int32_t ky = 0; ky < w.y.size; ++ky) {
          const int32_t iy = w.y.source(oy, ky);
          if (iy < 0) continue;
          for (int32_t kx = 0; kx < w.x.size; ++kx) {
            const int32_t ix = w.x.source(ox, kx);
            if (ix < 0) continue;
            const int8_t* row =
                weights + o * fan_in + static_cast<uint32_t>(ky * w.x.size + kx) * in;
            const int8_t* x = run.data(xt) + static_cast<uint32_t>(iy * w.x.out + ix) * in;
            for (uint32_t i = 0; i < in; ++i) acc += row[i] * (x[i] - xt.zero_point);
          }
        }
        outputs.put(scaling.apply(o, acc));
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
  const Window w = window_of_transpose(op, xt, yt);
  const int8_t* weights = reinterpret_cast<const int8_t*>(model.at(op.weights));
  const uint32_t in = xt.channels, fan_in = static_cast<uint32_t>(w.taps()) * in;
  int32_t* values = reinterpret_cast<int32_t*>(run.arena + plan.scratch);
  for (int32_t iy = 0; iy < w.y.out; ++iy) {
    for (int32_t ix = 0; ix < w.x.out; ++ix) {
      for (uint32_t i = 0; i < in; ++i) values[i] = 0;
      int top = kZeroExponent;
      for (int pass = 0; pass < 2; ++pass) {  // the largest exponent, then the sums
        for (int32_t tap = 0; tap < w.taps(); ++tap) {
          const int32_t oy = iy * w.y.stride - w.y.pad + tap / w.x.size;
          const int32_t ox = ix * w.x.stride - w.x.pad + tap % w.x.size;
          if (oy < 0 || oy >= w.y.in || ox < 0 || ox >= w.x.in) continue;
          const uint32_t p = static_cast<uint32_t>(oy * w.x.in + ox);
          const int e = run.exponents(yt)[p];
          if (pass == 0) {
            top = e > top ? e : top;
            continue;
          }
          if (top - e > 16) continue;
          const int16_t* m = run.mantissas(yt) + p * yt.channels;
          const int8_t* row = weights + static_cast<uint32_t>(tap) * in;
          for (uint32_t o = 0; o < yt.channels; ++o, row += fan_in) {
            const int32_t g = align_mantissa(m[o], top - e);
            for (uint32_t i = 0; i < in; ++i) values[i] = add_wrapping(values[i], g * row[i]);
          }
        }
      }
      put_gradient(run, xt, static_cast<uint32_t>(iy * w.x.out + ix), values, top, plan.factor,
                   op.has(kAddsToInput));
    }
  }
}

}  // namespace

const OpKernel kTransposeConv = {14, validate, forward, backward};

}  // namespace kilotune
