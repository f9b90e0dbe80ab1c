// Losses: their value for comparisons, their gradient for training, both exact in integers.
#ifndef KILOTUNE_KERNEL_LOSS_H_
#define KILOTUNE_KERNEL_LOSS_H_

#include <cstdint>

#include "kernel/ops/op.h"

namespace kilotune {

// What a window is compared with.
struct Target {
  // Regression: (outputs,) in the output's quantisation. Reconstruction: (outputs,) in the input's;
  // null: the input itself. It differs from the input where that carries noise.
  const int8_t* values = nullptr;
  uint16_t category = 0;  // cross-entropy: below Training::classes
};

// Value of the loss on what the last forward pass left in the arena. Squared error: sum of d^2 /
// 2^11 (d as in the training section). Cross-entropy: -log2 p in Q20. Comparable between windows of
// one model only.
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
