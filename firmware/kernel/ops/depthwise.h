// Products of a depthwise window for four channels at once: one header, one plain and one SIMD
// implementation with the same bits.
#ifndef KILOTUNE_KERNEL_OPS_DEPTHWISE_H_
#define KILOTUNE_KERNEL_OPS_DEPTHWISE_H_

#include <cstdint>

namespace kilotune {

// Taps of a window: steps in bytes between columns and, from the end of a row, to the next.
struct TapGrid {
  uint32_t rows, columns;
  uint32_t weight_step, input_step;  // weights lie without gaps between rows
  int32_t input_skip;
};

// sums[k] += w[tap][k] * x[tap][k] over all taps, for k < 4.
void depthwise4(const int8_t* w, const int8_t* x, const TapGrid& grid, int32_t sums[4]);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_DEPTHWISE_H_
