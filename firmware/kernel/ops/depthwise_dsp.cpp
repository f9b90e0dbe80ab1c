// Depthwise products with dual 16-bit multiplies (Cortex-M4, M7, M33): four bytes become two pairs.
#include "kernel/ops/depthwise.h"

#ifdef __ARM_FEATURE_DSP
#include <arm_acle.h>

#include <cstring>

namespace kilotune {
namespace {

// Bytes 1 and 3, sign-extended to two halves.
inline int16x2_t odd_bytes(uint32_t v) {
  int16x2_t r;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(r) : "r"(v));
  return r;
}

}  // namespace

void depthwise4(const int8_t* w, const int8_t* x, const TapGrid& grid, int32_t sums[4]) {
  int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
  const uint32_t weight_step = grid.weight_step, input_step = grid.input_step;
  for (uint32_t row = 0; row < grid.rows; ++row, x += grid.input_skip) {
    for (uint32_t k = grid.columns; k > 0; --k, w += weight_step, x += input_step) {
      uint32_t w4 = 0, x4 = 0;
      std::memcpy(&w4, w, sizeof w4);
      std::memcpy(&x4, x, sizeof x4);
      const int16x2_t w02 = __sxtb16(static_cast<int8x4_t>(w4));
      const int16x2_t x02 = __sxtb16(static_cast<int8x4_t>(x4));
      const int16x2_t w13 = odd_bytes(w4);
      const int16x2_t x13 = odd_bytes(x4);
      a = __smlabb(w02, x02, a);
      c = __smlatt(w02, x02, c);
      b = __smlabb(w13, x13, b);
      d = __smlatt(w13, x13, d);
    }
  }
  sums[0] = a;
  sums[1] = b;
  sums[2] = c;
  sums[3] = d;
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
