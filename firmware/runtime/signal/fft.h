// In-place FFT of real samples, 64 to 2048 points, in 32-bit integers: radix 2, half the length on
// pairs of samples. Every part is within 12 units of the exact transform
// (tests/kernel/test_fft.cpp).
#ifndef KILOTUNE_RUNTIME_SIGNAL_FFT_H_
#define KILOTUNE_RUNTIME_SIGNAL_FFT_H_

#include <cstdint>

namespace kilotune {

struct Turn {  // cosine and sine of an angle, Q31
  int32_t cosine;
  int32_t sine;
};

// Angle 2 pi k / points for k = 0 to points / 2, from a quarter wave: sin(2 pi i / points) for
// i = 0 to quarter = points / 4, 2^31 - 1 standing for 1.
[[nodiscard]] inline Turn turn(const int32_t* sine_q31, uint32_t quarter, uint32_t k) {
  if (k <= quarter) return {sine_q31[quarter - k], sine_q31[k]};
  return {-sine_q31[k - quarter], sine_q31[2 * quarter - k]};
}

// Where the pair of samples 2i and 2i + 1 goes: `i` with its bits in reverse, of points / 2 pairs.
[[nodiscard]] inline uint32_t fft_place(uint32_t i, uint32_t points) {
  const uint32_t unused = static_cast<uint32_t>(__builtin_clz(points)) + 2;  // of 32 bits
#if defined(__ARM_ARCH) && __ARM_ARCH >= 7 && !defined(__aarch64__)
  uint32_t mirrored;
  __asm__("rbit %0, %1" : "=r"(mirrored) : "r"(i));
#else
  uint32_t mirrored = i << 16 | i >> 16;
  mirrored = (mirrored & 0x00FF00FFu) << 8 | (mirrored >> 8 & 0x00FF00FFu);
  mirrored = (mirrored & 0x0F0F0F0Fu) << 4 | (mirrored >> 4 & 0x0F0F0F0Fu);
  mirrored = (mirrored & 0x33333333u) << 2 | (mirrored >> 2 & 0x33333333u);
  mirrored = (mirrored & 0x55555555u) << 1 | (mirrored >> 1 & 0x55555555u);
#endif
  return mirrored >> unused;
}

// Transforms `points` real samples, |sample| < 2^29, in pairs at their fft_place, into X(k) /
// points for k = 0 to points / 2: data[0] = X(0), data[1] = X(points / 2) (both real), data[2k],
// data[2k + 1] = real and imaginary part of X(k). `sine_q31`: the quarter wave of `turn`.
void fft_real(int32_t* data, uint32_t points, const int32_t* sine_q31);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_SIGNAL_FFT_H_
