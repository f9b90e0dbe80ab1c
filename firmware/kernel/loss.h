// Losses: their value for comparisons, their gradient for training, both exact in integers.
#ifndef KILOTUNE_KERNEL_LOSS_H_
#define KILOTUNE_KERNEL_LOSS_H_

#include <cstdint>

#include "kernel/ops/op.h"

namespace kilotune {

// What a window is compared with.
struct Target {
  // Regression: (outputs,) in the output's quantisation. Reconstruction: (outputs,) in the input's,
  // null: the input itself; it differs where the input carries noise.
  const int8_t* values = nullptr;
  uint16_t category = 0;             // cross-entropy: below Training::classes
  const uint8_t* weights = nullptr;  // squared error: (outputs,) Q5 weights up to 127, null: all 1
};

// Value of the loss on what the last forward pass left in the arena. Squared error: sum of weighted
// d^2 (d as in the training section, weights Q5), in units of 2^-16 of that. Cross-entropy: -log2 p
// in Q20. Comparable between windows of one model only.
uint64_t loss_value(const Execution& run, const Training& training, const Target& target);

// Writes the gradient of the loss's tensor. Squared error is (weighted) mean over outputs.
void loss_gradient(const Execution& run, const Training& training, const Target& target);

// d(i) of a squared-error loss (SPEC 1.5) on what the last forward pass left in the arena.
void loss_differences(const Execution& run, const Training& training, const Target& target,
                      int32_t* d);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_LOSS_H_
