// Squared error and softmax cross-entropy with 23-bit probabilities.
#include "kernel/loss.h"

#include "kernel/fixed_log.h"

namespace kilotune {
namespace {

// d(i) = ((y - zy) A - (t - zt) B) w / 32; |d| < 2^23 without weights, 2^25 with the largest.
class SquaredError {
 public:
  SquaredError(const Execution& run, const Training& training, const Target& target)
      : training_(training), weights_(target.weights) {
    const Tensor y = run.model->tensor(training.tensor);
    const Tensor t =
        training.loss == Loss::reconstruction ? run.model->tensor(run.model->input) : y;
    y_ = run.data(y);
    t_ = target.values != nullptr ? target.values : run.data(t);
    zero_y_ = y.zero_point;
    zero_t_ = t.zero_point;
    count_ = y.elements();
  }
  [[nodiscard]] uint32_t count() const { return count_; }
  [[nodiscard]] int32_t difference(uint32_t i) const {
    return (y_[i] - zero_y_) * training_.a - (t_[i] - zero_t_) * training_.b;
  }
  [[nodiscard]] int32_t weight(uint32_t i) const {
    return weights_ == nullptr ? 32 : weights_[i] & 127;
  }

 private:
  const Training& training_;
  const uint8_t* weights_;
  const int8_t *y_, *t_;
  int32_t zero_y_, zero_t_;
  uint32_t count_;
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
  // The distance is 0 to 255; as a byte it stays in the table even in a careless image that lets
  // the gradient overwrite the logits.
  [[nodiscard]] uint32_t value(uint32_t i) const {
    return load_u32(table + 4 * static_cast<uint8_t>(largest - q[i])) & ((1u << 24) - 1);
  }
};

}  // namespace

uint64_t loss_value(const Execution& run, const Training& training, const Target& target) {
  if (training.loss == Loss::cross_entropy) {
    const Softmax p(run, training);
    const uint32_t mine = p.value(target.category);
    const int32_t bits = log2_q16(p.sum) - log2_q16(mine == 0 ? 1 : mine);
    return static_cast<uint64_t>(bits < 0 ? 0 : bits) << 4;
  }
  const SquaredError e(run, training, target);
  uint64_t sum = 0;  // below 2^16 * 2^46 * 2^7 / 2^16
  for (uint32_t i = 0; i < e.count(); ++i) {
    const int64_t d = e.difference(i);
    sum += (static_cast<uint64_t>(d * d) * static_cast<uint32_t>(e.weight(i))) >> 16;
  }
  return sum;
}

void loss_differences(const Execution& run, const Training& training, const Target& target,
                      int32_t* d) {
  const SquaredError e(run, training, target);
  for (uint32_t i = 0; i < e.count(); ++i) d[i] = e.difference(i);
}

void loss_gradient(const Execution& run, const Training& training, const Target& target) {
  const Tensor y = run.model->tensor(training.tensor);
  int32_t* values = reinterpret_cast<int32_t*>(run.mantissas(y));
  if (training.loss == Loss::cross_entropy) {
    const Softmax p(run, training);
    for (uint32_t i = 0; i < training.classes; ++i) {
      const uint64_t scaled = static_cast<uint64_t>(p.value(i)) << 24;
      const int32_t probability = static_cast<int32_t>((scaled + p.sum / 2) / p.sum);  // Q24
      values[i] = probability - (i == target.category ? 1 << 24 : 0);
    }
  } else {
    const SquaredError e(run, training, target);
    for (uint32_t i = 0; i < e.count(); ++i) {
      const int32_t d = e.difference(i);
      values[i] = target.weights == nullptr ? d : (d >> 5) * e.weight(i);
    }
  }
  store_gradient(run, y, 0, values, 0);
}

}  // namespace kilotune
