// ADD and MUL of two tensors; the second may have one position that counts for all.
#include "kernel/ops/layer.h"

namespace kilotune {
namespace {

constexpr int kLeftShift = 20;  // TensorFlow Lite's headroom before inputs are brought to one scale

// Byte i of the last word: a shift.
int shift_at(const Op& op, uint32_t i) { return static_cast<int8_t>(op.words[3] >> (8 * i)); }

bool shapes_valid(const Model& model, const Op& op) {
  if (op.input2 == kNoTensor) return false;
  const Tensor a = model.tensor(op.input), b = model.tensor(op.input2);
  const Tensor y = model.tensor(op.output);
  return a.height == y.height && a.width == y.width && a.channels == y.channels &&
         b.channels == y.channels &&
         (b.positions() == 1 || (b.height == y.height && b.width == y.width)) &&
         only_passes_gradients(op, kBackwardToInput | kBackwardToInput2) &&
         backward_scratch_holds(model, op, 8ull * y.channels);
}

bool scaling_valid(const Op& op, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    if (static_cast<int32_t>(op.words[i]) < 0 || shift_at(op, i) < -31 || shift_at(op, i) > 30)
      return false;
  }
  return true;
}

Status validate_add(const Model& model, const Op& op) {
  return shapes_valid(model, op) && scaling_valid(op, 3) ? Status::ok : Status::bad_image;
}
Status validate_mul(const Model& model, const Op& op) {
  return shapes_valid(model, op) && scaling_valid(op, 1) ? Status::ok : Status::bad_image;
}

int32_t scaled(const Op& op, uint32_t i, int32_t v) {
  return requantise_rare(v, static_cast<int32_t>(op.words[i]), shift_at(op, i));
}

// put(combine(a, b)) with both relative to their zero points.
template <typename Combine>
void forward_with(const Execution& run, const Op& op, bool training, const Combine& combine) {
  const Tensor at = run.model->tensor(op.input), bt = run.model->tensor(op.input2);
  const Tensor yt = run.model->tensor(op.output);
  const int8_t *a = run.data(at), *b = run.data(bt);
  const bool repeat = bt.positions() == 1;
  Outputs outputs(run, op, yt, training);
  for (uint32_t p = 0; p < yt.positions(); ++p, a += yt.channels, b += repeat ? 0 : yt.channels) {
    for (uint32_t c = 0; c < yt.channels; ++c)
      outputs.put(combine(a[c] - at.zero_point, b[c] - bt.zero_point));
  }
}

void forward_add(const Execution& run, const Op& op, bool training) {
  forward_with(run, op, training, [&](int32_t a, int32_t b) {
    const int64_t sum = static_cast<int64_t>(scaled(op, 0, a * (1 << kLeftShift))) +
                        scaled(op, 1, b * (1 << kLeftShift));
    return scaled(op, 2, saturate32(sum));
  });
}

void forward_mul(const Execution& run, const Op& op, bool training) {
  forward_with(run, op, training, [&](int32_t a, int32_t b) { return scaled(op, 0, a * b); });
}

// What the second input's one position gets from all of the output's: `scale(p, c)` times
// mantissas.
template <typename Scale>
void sum_positions(const Execution& run, const Op& op, const OpTraining& plan, const Tensor& yt,
                   const Scale& scale, int32_t* values) {
  const int top = largest_exponent(run.exponents(yt), yt.positions());
  // Products have 24 bits; as many more are cut as the count of positions asks for.
  const int bits = magnitude_bits(static_cast<int32_t>(yt.positions()));
  const int extra = bits > 6 ? bits - 6 : 0;
  for (uint32_t c = 0; c < yt.channels; ++c) values[c] = 0;
  for (uint32_t p = 0; p < yt.positions(); ++p) {
    const int d = top - run.exponents(yt)[p] + extra;
    if (d < 0 || d > 24) continue;
    const int16_t* m = run.mantissas(yt) + p * yt.channels;
    for (uint32_t c = 0; c < yt.channels; ++c) {
      const int32_t product = m[c] * scale(p, c);
      values[c] = add_wrapping(values[c], d == 0 ? product : ((product >> (d - 1)) + 1) >> 1);
    }
  }
  put_gradient(run, run.model->tensor(op.input2), 0, values, top + extra, plan.factor2,
               op.has(kAddsToInput2));
}

// to_a and to_b: factors of the output's gradient on its way to either input.
template <typename A, typename B>
void backward_with(const Execution& run, const Op& op, const A& to_a, const B& to_b) {
  const Tensor at = run.model->tensor(op.input), bt = run.model->tensor(op.input2);
  const Tensor yt = run.model->tensor(op.output);
  const OpTraining plan = run.model->op_training(op);
  const uint32_t n = yt.channels;
  int32_t* values = reinterpret_cast<int32_t*>(run.arena + plan.scratch);
  const bool repeats = bt.positions() == 1 && yt.positions() != 1;
  if (repeats && op.has(kBackwardToInput2)) sum_positions(run, op, plan, yt, to_b, values);
  for (uint32_t p = 0; p < yt.positions(); ++p) {
    const int16_t* m = run.mantissas(yt) + p * n;
    const int exponent = run.exponents(yt)[p];
    for (uint32_t c = 0; c < n; ++c) {  // both before the first input's may take their place
      values[c] = m[c] * to_a(p, c);
      values[n + c] = repeats ? 0 : m[c] * to_b(p, c);
    }
    if (op.has(kBackwardToInput))
      put_gradient(run, at, p, values, exponent, plan.factor, op.has(kAddsToInput));
    if (op.has(kBackwardToInput2) && !repeats)
      put_gradient(run, bt, p, values + n, exponent, plan.factor2, op.has(kAddsToInput2));
  }
}

void backward_add(const Execution& run, const Op& op, Step&) {
  const auto one = [](uint32_t, uint32_t) { return 1; };
  backward_with(run, op, one, one);
}

void backward_mul(const Execution& run, const Op& op, Step&) {
  const Tensor at = run.model->tensor(op.input), bt = run.model->tensor(op.input2);
  const uint32_t n = at.channels, step = bt.positions() == 1 ? 0 : n;
  const int8_t *a = run.data(at), *b = run.data(bt);
  backward_with(
      run, op, [&](uint32_t p, uint32_t c) { return b[p * step + c] - bt.zero_point; },
      [&](uint32_t p, uint32_t c) { return a[p * n + c] - at.zero_point; });
}

}  // namespace

const OpKernel kAdd = {9, validate_add, forward_add, backward_add};
const OpKernel kMul = {10, validate_mul, forward_mul, backward_mul};

}  // namespace kilotune
