// Fixed-point arithmetic with explicit rounding: TensorFlow Lite Micro's requantisation, and the
// short floating-point numbers in which learning rates and planned constants travel.
#ifndef KILOTUNE_KERNEL_FIXED_POINT_H_
#define KILOTUNE_KERNEL_FIXED_POINT_H_

#include <cstdint>

namespace kilotune {

constexpr int32_t kInt32Max = 0x7FFFFFFF;
constexpr int32_t kInt32Min = -kInt32Max - 1;

inline int32_t saturate32(int64_t v) {
  return v > kInt32Max ? kInt32Max : (v < kInt32Min ? kInt32Min : static_cast<int32_t>(v));
}
// The type of the value decides: bounds are converted to it.
template <typename T>
struct Same {
  using type = T;
};
template <typename T>
inline T clamp(T v, typename Same<T>::type low, typename Same<T>::type high) {
  return v < low ? low : (v > high ? high : v);
}
inline int16_t to_i16(int32_t v) { return static_cast<int16_t>(clamp(v, -32768, 32767)); }
inline int8_t to_i8(int32_t v) { return static_cast<int8_t>(clamp(v, -128, 127)); }

// v * 2^n, saturated; n in 0..31.
int32_t shift_saturated(int32_t v, int n);

// round(a * b / 2^31), halves towards plus infinity: gemmlowp's SaturatingRoundingDoublingHighMul.
// (Its nudge and division towards zero amount to the same: -(k + 1/2) gives -k either way.)
inline int32_t doubling_high_multiply(int32_t a, int32_t b) {
  if (a == kInt32Min && b == kInt32Min) return kInt32Max;
  return static_cast<int32_t>((static_cast<int64_t>(a) * b + (1ll << 30)) >> 31);
}

// round(x / 2^n), ties away from zero; n in 0..31. gemmlowp's RoundingDivideByPOT.
inline int32_t divide_by_power_of_two(int32_t x, int n) {
  const int32_t mask = static_cast<int32_t>((1u << n) - 1u);
  const int32_t remainder = x & mask;
  const int32_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
  return (x >> n) + (remainder > threshold ? 1 : 0);
}

// The general case of requantise, out of line.
int32_t requantise_rare(int32_t x, int32_t multiplier, int shift);

// TensorFlow Lite's MultiplyByQuantizedMultiplier, double rounding: x * multiplier / 2^31 *
// 2^shift.
inline int32_t requantise(int32_t x, int32_t multiplier, int shift) {
  if (shift < 0 && shift >= -29) {
    // The usual case without a branch on the remainder. |x| < 1.5 * 2^30 (kAccumulatorMax), so
    // the product's high half plus 2^28 stays in int32.
    const int32_t high =
        static_cast<int32_t>((static_cast<int64_t>(x) * multiplier + (1ll << 30)) >> 31);
    return (high + (high >> 31) + (1 << (-shift - 1))) >> -shift;
  }
  return requantise_rare(x, multiplier, shift);
}

// Bits that |v| needs: 0 for 0, 31 at most (kInt32Min counts as kInt32Max).
inline int magnitude_bits(int32_t v) {
  const uint32_t magnitude = v < 0 ? ~static_cast<uint32_t>(v) : static_cast<uint32_t>(v);
  return magnitude == 0 ? 0 : 32 - __builtin_clz(magnitude);
}

// A non-negative real number: mantissa * 2^exponent, mantissa in [2^15, 2^16) or 0.
struct Real {
  uint16_t mantissa = 0;
  int16_t exponent = 0;

  [[nodiscard]] bool is_zero() const { return mantissa == 0; }
};

// Exponents are clamped to +-kRealExponentMax so that sums of a few of them stay in int16.
constexpr int kRealExponentMax = 4000;

// Rounds mantissa * 2^exponent to a Real.
Real make_real(uint32_t mantissa, int exponent);
inline Real operator*(Real a, Real b) {
  return make_real(uint32_t{a.mantissa} * b.mantissa, a.exponent + b.exponent);
}

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_FIXED_POINT_H_
