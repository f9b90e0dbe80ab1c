// RESHAPE, where two operators see the same values in different shapes: a copy.
#include "kernel/ops/layer.h"

namespace kilotune {
namespace {

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const bool good = x.elements() == y.elements() && only_passes_gradients(op) &&
                    backward_scratch_holds(model, op, 4ull * x.channels);
  return good ? Status::ok : Status::bad_image;
}

void forward(const Execution& run, const Op& op, bool) {
  const Tensor xt = run.model->tensor(op.input);
  std::memmove(run.data(run.model->tensor(op.output)), run.data(xt), xt.elements());
}

// A position of the input takes its values from one or more positions of the output.
void backward(const Execution& run, const Op& op, Step&) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const OpTraining plan = run.model->op_training(op);
  int32_t* values = reinterpret_cast<int32_t*>(run.arena + plan.scratch);
  const uint32_t n = xt.channels;
  constexpr int kFraction = 8;
  for (uint32_t p = 0; p < xt.positions(); ++p) {
    const uint32_t first = p * n / yt.channels, last = (p * n + n - 1) / yt.channels;
    const int top = largest_exponent(run.exponents(yt) + first, last - first + 1);
    for (uint32_t i = 0; i < n; ++i) {
      const int d = top - run.exponents(yt)[(p * n + i) / yt.channels];
      const int32_t m = run.mantissas(yt)[p * n + i];
      values[i] = d > 16 ? 0 : align_mantissa(m * (1 << kFraction), d);
    }
    put_gradient(run, xt, p, values, top - kFraction, plan.factor, op.has(kAddsToInput));
  }
}

}  // namespace

const OpKernel kReshape = {13, validate, forward, backward};

}  // namespace kilotune
