// CONV_2D: each output position is a dense layer over the patch of the input that it sees.
#include "kernel/ops/positions.h"
#include "kernel/ops/update.h"

namespace kilotune {
namespace {

constexpr uint32_t kScratchWord = 5;  // arena offset of the forward pass's memory

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const Window w = window_of(op, x, y);
  if (!window_valid(w)) return Status::bad_image;
  const uint64_t fan_in = static_cast<uint64_t>(w.taps()) * x.channels;
  const Status status = check_layer(model, op, fan_in * y.channels, products_of(fan_in));
  if (status != Status::ok) return status;
  if (w.pointwise() && x.positions() != y.positions()) return Status::bad_image;
  const uint64_t patch = w.pointwise() ? 0 : fan_in;
  if (!scratch_holds(model, op.words[kScratchWord], spread_bytes(fan_in) + patch))
    return Status::bad_image;
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
  const int8_t* weights = reinterpret_cast<const int8_t*>(aligned4(model.at(op.weights)));
  const uint32_t fan_in = static_cast<uint32_t>(w.taps()) * xt.channels;
  uint8_t* scratch = run.arena + op.words[kScratchWord];
  int8_t* patch = reinterpret_cast<int8_t*>(scratch + spread_bytes(fan_in));
  const bool overwritten = xt.data < yt.data + yt.elements() && yt.data < xt.data + xt.elements();
  Patches patches(w, xt, run.data(xt), patch, overwritten);
  Finish finish = make_finish(run, op, yt, training);
  dense_positions(weights, patches, yt.positions(), fan_in, yt.channels, dense_bias(run, op),
                  finish, scratch);
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
  const Window w = window_of(op, xt, yt);
  const int8_t* weights = reinterpret_cast<const int8_t*>(aligned4(model.at(op.weights)));
  if (w.pointwise()) {
    rescale_gradient(run, plan, yt);
    return backward_pointwise(run, op, plan, xt, yt, weights);
  }
  const uint32_t in = xt.channels, out = yt.channels;
  const uint32_t fan_in = static_cast<uint32_t>(w.taps()) * in;
  window_backward(run, op, w, align_gradient(run, yt, plan.rescale),
                  [&](int32_t, int32_t, const Axis::Sources& vertical,
                      const Axis::Sources& horizontal, const GradientRows& rows, int32_t* values) {
                    for (int32_t r = 0; r < vertical.count; ++r) {
                      const int32_t tap =
                          (vertical.first + r * vertical.step) * w.x.size + horizontal.first;
                      const int8_t* row = weights + static_cast<uint32_t>(tap) * in;
                      const int16_t* m = rows.mantissas(vertical.output - r * vertical.output_step,
                                                        horizontal.output);
                      for (int32_t c = horizontal.count; c > 0; --c) {
                        transpose_add(row, m, out, fan_in, in, values);
                        row += static_cast<uint32_t>(horizontal.step) * in;
                        m -= static_cast<uint32_t>(horizontal.output_step) * out;
                      }
                    }
                  });
}

}  // namespace

const OpKernel kConv2D = {3, validate, forward, backward};

}  // namespace kilotune
