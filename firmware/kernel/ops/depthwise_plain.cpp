// Depthwise products in plain C++, for cores without dual 16-bit multiplies.
#include "kernel/ops/depthwise.h"

#ifndef __ARM_FEATURE_DSP

namespace kilotune {

void depthwise4(const int8_t* w, const int8_t* x, const TapGrid& grid, int32_t sums[4]) {
  int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
  for (uint32_t row = 0; row < grid.rows; ++row, x += grid.input_skip) {
    for (uint32_t k = 0; k < grid.columns; ++k, w += grid.weight_step, x += grid.input_step) {
      a += w[0] * x[0];
      b += w[1] * x[1];
      c += w[2] * x[2];
      d += w[3] * x[3];
    }
  }
  sums[0] = a;
  sums[1] = b;
  sums[2] = c;
  sums[3] = d;
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
