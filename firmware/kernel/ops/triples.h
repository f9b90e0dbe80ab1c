// The backward pass through depthwise 3x3 windows of stride 1 for cores with dual multiplies: three
// rows of the output's gradient, interleaved so that two taps of one channel are one word.
#ifndef KILOTUNE_KERNEL_OPS_TRIPLES_H_
#define KILOTUNE_KERNEL_OPS_TRIPLES_H_

#include <cstdint>

#include "kernel/ops/window.h"

namespace kilotune {

constexpr uint32_t kTriplesWidth = 2048;  // at most, so that a step between channels fits 16 bits

inline bool fits_triples(const Window& w, uint32_t channels) {
  const auto three = [](const Axis& a) { return a.size == 3 && a.stride == 1 && a.dilation == 1; };
  return three(w.y) && three(w.x) && channels % 4 == 0 &&
         static_cast<uint32_t>(w.x.out) <= kTriplesWidth;
}
// One position's int32 values, the weights and three rows as int16; one output per input channel.
inline uint64_t triples_bytes(const Window& w, uint32_t channels) {
  return uint64_t{channels} * (4 + 18 + 6 * static_cast<uint32_t>(w.x.out));
}

// Gradient of the op's input from that of its output, whose unit is 2^exponent. `weights` (taps,
// channels). False: this core cannot, and nothing was done.
bool backward_in_triples(const Execution& run, const Op& op, const Window& w, int exponent,
                         const int8_t* weights);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_TRIPLES_H_
