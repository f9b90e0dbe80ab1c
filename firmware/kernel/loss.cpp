// Squared error and softmax cross-entropy with 23-bit probabilities.
#include "kernel/loss.h"

#include "kernel/fixed_log.h"

namespace kilotune {
namespace {

// Outputs of the loss tensor that gradients pass: those that its op did not clamp.
class PassRange {
 public:
  PassRange(const Execution& run, const Training& training) {
    const Op op = run.model->op(training.first_op);
    if (!op.has(kRecordsMask)) return;
    from_ = op.act_min + 1;
    count_ = op.act_max > from_ ? static_cast<uint32_t>(op.act_max - from_) : 0;
  }
  [[nodiscard]] bool passes(int32_t y) const { return static_cast<uint32_t>(y - from_) < count_; }

 private:
  int32_t from_ = -128;
  uint32_t count_ = 256;
};

// Unnormalised probabilities: exp(s (q - max)) in Q23 by the image's table.
struct Softmax {
  const int8_t* q;
  const uint8_t* table;
  int32_t largest = -128;
  uint32_t sum = 0;  // at most 256 * 2^23 = 2^31

  Softmax(const Execution& run, const Training& training)
      : q(run.data(run.model->tensor(training.tensor))), table(run.model->at(training.exp_table)) {
    for (uint32_t i = 0; i < training.classes; ++i) largest = q[i] > largest ? q[i] : largest;
    for (uint32_t i = 0; i < training.classes; ++i) sum += value(i);
  }
  [[nodiscard]] uint32_t value(uint32_t i) const {
    // Masked, so that no image, however planned, leads outside the table.
    const uint32_t below = static_cast<uint32_t>(largest - q[i]) & 255u;
    return load_u32(table + 4 * below) & ((1u << 24) - 1);
  }
  // value / sum in Q24, rounded to nearest: long division, with as many bits per step as fit in 32
  // bits.
  [[nodiscard]] int32_t probability(uint32_t i) const {
    if (sum == 1u << 31) return static_cast<int32_t>(((value(i) >> 6) + 1) >> 1);
    uint32_t rest = value(i), quotient = 0;
    const int room = __builtin_clz(sum);
    for (int left = 24, bits = 0; left != 0; left -= bits) {
      bits = left < room ? left : room;
      const uint32_t digits = (rest << bits) / sum;
      rest = (rest << bits) - digits * sum;
      quotient = (quotient << bits) | digits;
    }
    return static_cast<int32_t>(quotient + (rest >= sum - sum / 2 ? 1 : 0));
  }
};

}  // namespace

uint64_t squared_error_value(const Execution& run, const Training& training, const Target& target) {
  const SquaredError e(run, training, target);
  uint64_t sum = 0;  // below 2^16 * 2^46 / 2^11
  for (uint32_t i = 0; i < e.count(); ++i) {
    const int64_t d = e.difference(i);
    sum += static_cast<uint64_t>(d * d) >> 11;
  }
  return sum;
}

uint64_t loss_value(const Execution& run, const Training& training, const Target& target) {
  if (training.loss != Loss::cross_entropy) return squared_error_value(run, training, target);
  const Softmax p(run, training);
  const uint32_t mine = p.value(target.category);
  const int32_t bits = log2_q16(p.sum) - log2_q16(mine == 0 ? 1 : mine);
  return static_cast<uint64_t>(bits < 0 ? 0 : bits) << 4;
}

SquaredError::SquaredError(const Execution& run, const Training& training, const Target& target)
    : a_(training.a), b_(training.b) {
  const Model& model = *run.model;
  const Tensor y = model.tensor(training.tensor);
  const Tensor t =
      model.tensor(training.loss == Loss::reconstruction ? model.input : training.tensor);
  y_ = run.data(y);
  t_ = target.values != nullptr ? target.values : run.data(t);
  offset_ = t.zero_point * b_ - y.zero_point * a_;
  count_ = y.elements();
}

namespace {

// Two passes, for the largest and for the mantissas: nothing wider than mantissas is ever stored.
// They may lie over the front of the outputs (SPEC 1.2): each is written after the last use of the
// output there. `gradient` is called with each i in turn.
template <typename Gradient>
void store_squared_error(const Execution& run, const Tensor& yt, uint32_t n, Gradient gradient) {
  uint32_t largest = 0;
  for (uint32_t i = 0; i < n; ++i) {
    const int32_t v = gradient(i);
    const uint32_t magnitude = static_cast<uint32_t>(v ^ (v >> 31));
    largest = magnitude > largest ? magnitude : largest;
  }
  const int bits = yt.mantissa_bits;
  const int shift = largest == 0 ? 0 : mantissa_shift(largest, bits);
  int16_t* mantissa = run.mantissas(yt);
  if (!kSmallCode && shift > 0 && !rounding_carries(largest, shift, bits)) {
    for (uint32_t i = 0; i < n; ++i)
      mantissa[i] = static_cast<int16_t>(((gradient(i) >> (shift - 1)) + 1) >> 1);
  } else {
    for (uint32_t i = 0; i < n; ++i)
      mantissa[i] = static_cast<int16_t>(to_mantissa(gradient(i), shift, bits));
  }
  run.exponents(yt)[0] = static_cast<int16_t>(shift);
}

}  // namespace

void squared_error_gradient(const Execution& run, const Training& training, const Target& target) {
  const SquaredError e(run, training, target);
  const PassRange range(run, training);
  const Tensor y = run.model->tensor(training.tensor);
  store_squared_error(run, y, e.count(), [e, range](uint32_t i) {
    return range.passes(e.output(i)) ? e.difference(i) : int32_t{0};
  });
}

namespace {

// Few outputs: compiled for size.
[[gnu::cold, gnu::noinline]] void cross_entropy_gradient(const Execution& run,
                                                         const Training& training,
                                                         const Target& target, const Tensor& y) {
  int32_t* values = reinterpret_cast<int32_t*>(run.mantissas(y));
  const Softmax p(run, training);
  const PassRange range(run, training);
  for (uint32_t i = 0; i < training.classes; ++i) {
    const int32_t wanted = i == target.category ? 1 << 24 : 0;
    values[i] = range.passes(p.q[i]) ? p.probability(i) - wanted : 0;
  }
  store_gradient(run, y, 0, values, 0);
}

}  // namespace

void loss_gradient(const Execution& run, const Training& training, const Target& target) {
  if (training.loss == Loss::cross_entropy) {
    cross_entropy_gradient(run, training, target, run.model->tensor(training.tensor));
  } else {
    squared_error_gradient(run, training, target);
  }
}

}  // namespace kilotune
