// MEAN over all positions: one value a channel. Words 0 and 1 are multiplier and shift, with the
// count in the multiplier.
#include "kernel/ops/layer.h"

namespace kilotune {
namespace {

constexpr uint32_t kMaxPositions = 1u << 22;  // keeps the sum below 2^30

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const int32_t shift = static_cast<int32_t>(op.words[1]);
  const bool good = y.positions() == 1 && x.channels == y.channels &&
                    x.positions() <= kMaxPositions && static_cast<int32_t>(op.words[0]) >= 0 &&
                    shift >= -31 && shift <= 30 && only_passes_gradients(op) &&
                    backward_scratch_holds(model, op, 4ull * x.channels);
  return good ? Status::ok : Status::bad_image;
}

void forward(const Execution& run, const Op& op, bool training) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const int32_t n = static_cast<int32_t>(xt.positions());
  Outputs outputs(run, op, yt, training);
  for (uint32_t c = 0; c < xt.channels; ++c) {
    const int8_t* x = run.data(xt) + c;
    int32_t sum = 0;
    for (int32_t p = 0; p < n; ++p, x += xt.channels) sum += *x;
    outputs.put(requantise(sum - n * xt.zero_point, static_cast<int32_t>(op.words[0]),
                           static_cast<int32_t>(op.words[1])));
  }
}

// Every position has the same share; the unit of the input's gradient holds 1 / count.
void backward(const Execution& run, const Op& op, Step&) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const OpTraining plan = run.model->op_training(op);
  int32_t* values = reinterpret_cast<int32_t*>(run.arena + plan.scratch);
  for (uint32_t p = 0; p < xt.positions(); ++p) {
    for (uint32_t c = 0; c < xt.channels; ++c) values[c] = run.mantissas(yt)[c];
    put_gradient(run, xt, p, values, run.exponents(yt)[0], plan.factor, op.has(kAddsToInput));
  }
}

}  // namespace

const OpKernel kMean = {7, validate, forward, backward};

}  // namespace kilotune
