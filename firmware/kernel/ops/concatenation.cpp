// CONCATENATION along height, width or channels, all inputs in one quantisation.
#include "kernel/ops/layer.h"

namespace kilotune {
namespace {

constexpr int kCountWord = 0, kAxisWord = 1;
constexpr uint32_t kEntryBytes = 8;
constexpr uint32_t kSends = 1, kAdds = 2;

// One input: {u16 tensor, u16 flags, Real factor of its gradient}.
struct Entry {
  uint16_t tensor;
  uint16_t flags;
  Real factor;
};

Entry entry_at(const Model& model, const Op& op, uint32_t i) {
  const uint8_t* p = model.at(op.weights) + kEntryBytes * i;
  return {load_u16(p), load_u16(p + 2), load_real(p + 4)};
}

uint32_t extent(const Tensor& t, uint32_t axis) {
  return axis == 0 ? t.height : (axis == 1 ? t.width : t.channels);
}

Status validate(const Model& model, const Op& op) {
  const Tensor y = model.tensor(op.output);
  const uint32_t count = op.words[kCountWord], axis = op.words[kAxisWord];
  if (axis > 2 || count < 1 || !model.image().holds(op.weights, count, kEntryBytes) ||
      op.has(kBiasTrained) || op.has(kWeightsTrained) || op.has(kBackwardToInput) ||
      op.has(kBackwardToInput2))
    return Status::bad_image;
  uint64_t total = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const Entry e = entry_at(model, op, i);
    if (e.tensor >= model.tensor_count || e.flags > (kSends | kAdds) || !factor_valid(e.factor))
      return Status::bad_image;
    const Tensor x = model.tensor(e.tensor);
    total += extent(x, axis);
    for (uint32_t other = 0; other < 3; ++other) {
      if (other != axis && extent(x, other) != extent(y, other)) return Status::bad_image;
    }
    if ((e.flags & kSends) == 0) continue;
    if (op.training == 0 || x.gradient == kNone ||
        !scratch_holds(model, model.op_training(op).scratch, 4ull * x.channels))
      return Status::bad_image;
  }
  return total == extent(y, axis) ? Status::ok : Status::bad_image;
}

// Calls visit(entry, tensor, position of the input, position and channel of the output).
template <typename Visit>
void each_position(const Execution& run, const Op& op, const Visit& visit) {
  const Tensor yt = run.model->tensor(op.output);
  const uint32_t axis = op.words[kAxisWord];
  uint32_t start = 0;
  for (uint32_t i = 0; i < op.words[kCountWord]; ++i) {
    const Entry e = entry_at(*run.model, op, i);
    const Tensor xt = run.model->tensor(e.tensor);
    const uint32_t top = axis == 0 ? start : 0, left = axis == 1 ? start : 0;
    for (uint32_t y = 0; y < xt.height; ++y) {
      for (uint32_t x = 0; x < xt.width; ++x)
        visit(e, xt, y * xt.width + x, (y + top) * yt.width + x + left, axis == 2 ? start : 0);
    }
    start += extent(xt, axis);
  }
}

void forward(const Execution& run, const Op& op, bool) {
  const Tensor yt = run.model->tensor(op.output);
  each_position(run, op,
                [&](const Entry&, const Tensor& xt, uint32_t from, uint32_t to, uint32_t c) {
                  std::memmove(run.data(yt) + to * yt.channels + c,
                               run.data(xt) + from * xt.channels, xt.channels);
                });
}

void backward(const Execution& run, const Op& op, Step&) {
  const Tensor yt = run.model->tensor(op.output);
  int32_t* values = reinterpret_cast<int32_t*>(run.arena + run.model->op_training(op).scratch);
  each_position(run, op,
                [&](const Entry& e, const Tensor& xt, uint32_t from, uint32_t to, uint32_t c) {
                  if ((e.flags & kSends) == 0) return;
                  const int16_t* m = run.mantissas(yt) + to * yt.channels + c;
                  for (uint32_t i = 0; i < xt.channels; ++i) values[i] = m[i];
                  put_gradient(run, xt, from, values, run.exponents(yt)[to], e.factor,
                               (e.flags & kAdds) != 0);
                });
}

}  // namespace

const OpKernel kConcatenation = {11, validate, forward, backward};

}  // namespace kilotune
