// CONV_2D: each output position is a dense layer over the patch of the input that it sees.
#include "kernel/ops/dense.h"
#include "kernel/ops/update.h"
#include "kernel/ops/window.h"

namespace kilotune {
namespace {

constexpr int kPatchWord = 5;  // arena offset of one patch, kNone where the input is read in place

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const Window w = window_of(op, x, y);
  if (!window_valid(w)) return Status::bad_image;
  const uint64_t fan_in = static_cast<uint64_t>(w.taps()) * x.channels;
  const Status status = check_layer(model, op, fan_in * y.channels, fan_in);
  if (status != Status::ok) return status;
  if (w.pointwise()) {
    if (x.positions() != y.positions()) return Status::bad_image;
  } else if (!scratch_holds(model, op.words[kPatchWord], fan_in)) {
    return Status::bad_image;
  }
  const bool in_place = x.gradient == y.gradient && op.has(kBackwardToInput);
  if (in_place && (x.height != y.height || x.width != y.width || x.channels != y.channels))
    return Status::bad_image;
  const uint64_t scratch = w.pointwise() ? 4ull * x.channels : window_scratch_bytes(w, x, y);
  return backward_scratch_holds(model, op, scratch) ? Status::ok : Status::bad_image;
}

void forward(const Execution& run, const Op& op, bool training) {
  const Model& model = *run.model;
  const Tensor xt = model.tensor(op.input), yt = model.tensor(op.output);
  const Window w = window_of(op, xt, yt);
  const int8_t* x = run.data(xt);
  const int8_t* weights = reinterpret_cast<const int8_t*>(aligned4(model.at(op.weights)));
  const uint32_t fan_in = static_cast<uint32_t>(w.taps()) * xt.channels, out = yt.channels;
  const bool pointwise = w.pointwise();
  int8_t* patch = pointwise ? nullptr : reinterpret_cast<int8_t*>(run.arena + op.words[kPatchWord]);
  const Biases bias(run, op);
  const Scaling scaling(run, op);
  Outputs outputs(run, op, yt, training);
  for (int32_t oy = 0; oy < w.y.out; ++oy) {
    for (int32_t ox = 0; ox < w.x.out; ++ox) {
      const int8_t* in = patch;
      if (pointwise) {
        in = x;
        x += fan_in;
      } else {
        fill_patch(w, xt, x, oy, ox, patch);
      }
      const int8_t* row = weights;
      uint32_t o = 0;
      for (; o + 4 <= out; o += 4, row += 4 * fan_in) {
        int32_t sums[4] = {bias.at(o), bias.at(o + 1), bias.at(o + 2), bias.at(o + 3)};
        dot4_q(row, in, fan_in, sums);
        outputs.put4(scaling, o, sums);
      }
      for (; o < out; ++o, row += fan_in) {
        outputs.put(scaling.apply(o, bias.at(o) + dot_q(row, in, fan_in)));
      }
    }
  }
}

// Position by position, so that the input's gradient may take the output's place.
void backward_pointwise(const Execution& run, const Op& op, const OpTraining& plan,
                        const Tensor& xt, const Tensor& yt, const int8_t* weights) {
  int32_t* values = reinterpret_cast<int32_t*>(run.arena + plan.scratch);
  for (uint32_t p = 0; p < yt.positions(); ++p) {
    const int exponent = run.exponents(yt)[p];
    transpose_multiply(weights, run.mantissas(yt) + p * yt.channels, yt.channels, xt.channels,
                       values);
    put_gradient(run, xt, p, values, exponent, plan.factor, op.has(kAddsToInput));
  }
}

void backward(const Execution& run, const Op& op, Step& step) {
  const Model& model = *run.model;
  const Tensor xt = model.tensor(op.input), yt = model.tensor(op.output);
  const OpTraining plan = model.op_training(op);
  if (op.has(kBiasTrained)) update_bias_positions(run, op, plan, yt, step);
  if (!op.has(kBackwardToInput)) return;
  rescale_gradient(run, plan, yt);
  const Window w = window_of(op, xt, yt);
  const int8_t* weights = reinterpret_cast<const int8_t*>(aligned4(model.at(op.weights)));
  if (w.pointwise()) return backward_pointwise(run, op, plan, xt, yt, weights);
  const uint32_t in = xt.channels, out = yt.channels;
  const uint32_t fan_in = static_cast<uint32_t>(w.taps()) * in;
  window_backward(run, op, w, 0,
                  [&](int32_t, int32_t, int32_t, int32_t, int32_t tap, const int16_t* mantissas,
                      int shift, int32_t* values) {
                    const int8_t* row = weights + static_cast<uint32_t>(tap) * in;
                    for (uint32_t o = 0; o < out; ++o, row += fan_in) {
                      const int32_t m = align_mantissa(mantissas[o], shift);
                      if (m == 0) continue;
                      for (uint32_t i = 0; i < in; ++i)
                        values[i] = add_wrapping(values[i], m * row[i]);
                    }
                  });
}

}  // namespace

const OpKernel kConv2D = {3, validate, forward, backward};

}  // namespace kilotune
