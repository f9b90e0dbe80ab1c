// Requantisation with unusual multipliers (1 and more, or almost 0), and the rounding of Real.
#include "kernel/fixed_point.h"

namespace kilotune {

int32_t shift_saturated(int32_t v, int n) {
  if (v > kInt32Max >> n) return kInt32Max;
  if (v < kInt32Min >> n) return kInt32Min;
  return static_cast<int32_t>(static_cast<uint32_t>(v) << n);
}

int32_t requantise_rare(int32_t x, int32_t multiplier, int shift) {
  const int32_t scaled = shift > 0 ? shift_saturated(x, shift) : x;
  return divide_by_power_of_two(doubling_high_multiply(scaled, multiplier), shift < 0 ? -shift : 0);
}

Real make_real(uint32_t mantissa, int exponent) {
  if (mantissa == 0) return {};
  int shift = 16 - __builtin_clz(mantissa);  // bits above 16
  mantissa = shift > 0 ? ((mantissa >> (shift - 1)) + 1) >> 1 : mantissa << -shift;
  if (mantissa == 0x10000u) {
    mantissa = 0x8000u;
    ++shift;
  }
  return {static_cast<uint16_t>(mantissa),
          static_cast<int16_t>(clamp(exponent + shift, -kRealExponentMax, kRealExponentMax))};
}

}  // namespace kilotune
