// LOOKUP: a function of one value as a table: separate activations, and QUANTIZE.
#include "kernel/ops/layer.h"

namespace kilotune {
namespace {

constexpr uint32_t kEntries = 256;

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const Bytes& image = model.image();
  const bool good = x.height == y.height && x.width == y.width && x.channels == y.channels &&
                    image.holds(op.weights, kEntries, 1) && only_passes_gradients(op) &&
                    (!op.has(kBackwardToInput) || image.holds(op.bias, kEntries, 2)) &&
                    backward_scratch_holds(model, op, 4ull * x.channels);
  return good ? Status::ok : Status::bad_image;
}

void forward(const Execution& run, const Op& op, bool) {
  const Tensor xt = run.model->tensor(op.input);
  const int8_t* x = run.data(xt);
  int8_t* y = run.data(run.model->tensor(op.output));
  const int8_t* table = reinterpret_cast<const int8_t*>(run.model->at(op.weights)) + 128;
  for (uint32_t i = 0; i < xt.elements(); ++i) y[i] = table[x[i]];
}

// Slopes are i16 in Q14 of the largest one, which the unit of the input's gradient holds.
void backward(const Execution& run, const Op& op, Step&) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const OpTraining plan = run.model->op_training(op);
  const uint8_t* slopes = aligned4(run.model->at(op.bias)) + 2 * 128;
  int32_t* values = reinterpret_cast<int32_t*>(run.arena + plan.scratch);
  const uint32_t n = xt.channels;
  for (uint32_t p = 0; p < xt.positions(); ++p) {
    const int8_t* x = run.data(xt) + p * n;
    const int16_t* m = run.mantissas(yt) + p * n;
    for (uint32_t i = 0; i < n; ++i) values[i] = m[i] * load_i16(slopes + 2 * x[i]);
    const int exponent = run.exponents(yt)[p] - 14;
    put_gradient(run, xt, p, values, exponent, plan.factor, op.has(kAddsToInput));
  }
}

}  // namespace

const OpKernel kLookup = {8, validate, forward, backward};

}  // namespace kilotune
