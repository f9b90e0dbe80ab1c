// Losses: their value for comparisons, their gradient for training, both exact in integers.
#ifndef KILOTUNE_KERNEL_LOSS_H_
#define KILOTUNE_KERNEL_LOSS_H_

#include <cstdint>

#include "kernel/ops/op.h"

namespace kilotune {

constexpr uint16_t kNoCategory = 0xFFFFu;

// What a window is compared with; as it is made, for autoencoders: the input itself.
struct Target {
  // Regression: in the output's quantisation. Reconstruction: in the input's, where the input
  // carries noise and the target does not.
  const int8_t* values = nullptr;
  uint16_t count = 0;               // of `values`: the loss tensor's
  uint16_t category = kNoCategory;  // cross-entropy: below Training::classes

  static Target of_values(const int8_t* values, uint16_t count) {
    return {values, count, kNoCategory};
  }
  static Target of_class(uint16_t category) { return {nullptr, 0, category}; }
};

// Value of the loss on what the last forward pass left in the arena. Squared error: sum of d^2 /
// 2^11 (d as in the training section). Cross-entropy: -log2 p in Q20. Comparable between windows of
// one model only. As all that is declared below, it trusts what Trainer checks: the target fits.
uint64_t loss_value(const Execution& run, const Training& training, const Target& target);

// Writes the gradient of the loss tensor. Squared error is a mean over outputs. Outputs that the
// op clamped get no gradient; this needs no mask.
void loss_gradient(const Execution& run, const Training& training, const Target& target);

// The same where the loss is known to be a squared error.
uint64_t squared_error_value(const Execution& run, const Training& training, const Target& target);
void squared_error_gradient(const Execution& run, const Training& training, const Target& target);

// A squared-error loss on what the last forward pass left in the arena.
class SquaredError {
 public:
  SquaredError(const Execution& run, const Training& training, const Target& target);

  [[nodiscard]] uint32_t count() const { return count_; }
  [[nodiscard]] int32_t output(uint32_t i) const { return y_[i]; }
  // d(i) = (y - zy) A - (t - zt) B (SPEC 1.5); |d| < 2^23.
  [[nodiscard]] int32_t difference(uint32_t i) const { return y_[i] * a_ - t_[i] * b_ + offset_; }

 private:
  const int8_t *y_, *t_;
  int32_t a_, b_, offset_;
  uint32_t count_;
};

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_LOSS_H_
