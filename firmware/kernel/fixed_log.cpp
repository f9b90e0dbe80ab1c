// Logarithms by counting leading zeros, then 32 straight segments per octave.
#include "kernel/fixed_log.h"

namespace kilotune {
namespace {

constexpr int kSegmentBits = 5;
constexpr uint32_t kSegments = 1u << kSegmentBits;

// round(2^15 * log2(1 + i / 32)). A chord lies below the curve by at most h^2 / (8 ln 2) = 1.8e-4,
// h = 1/32.
constexpr uint16_t kLog2Q15[kSegments + 1] = {
    0,     1455,  2866,  4236,  5568,  6863,  8124,  9352,  10549, 11716, 12855,
    13968, 15055, 16117, 17156, 18173, 19168, 20143, 21098, 22034, 22952, 23852,
    24736, 25604, 26455, 27292, 28114, 28922, 29717, 30498, 31267, 32024, 32768,
};

// Bits below the segment number in a 32-bit mantissa whose leading one is dropped.
constexpr int kFractionBits = 31 - kSegmentBits;
constexpr uint32_t kFractionMask = (1u << kFractionBits) - 1;

}  // namespace

int32_t log2_q16(uint64_t value) {
  if (value == 0) return 0;
  const int zeros = __builtin_clzll(value);
  const uint32_t mantissa = static_cast<uint32_t>((value << zeros) >> 32) & 0x7FFFFFFFu;
  const uint32_t segment = mantissa >> kFractionBits;
  const uint32_t fraction = (mantissa & kFractionMask) >> (kFractionBits - 16);
  const uint32_t low = kLog2Q15[segment];
  const uint32_t step =
      kLog2Q15[segment + 1] - low;  // at most 1455: times a fraction below 2^16 fits
  return ((63 - zeros) * 65536) + static_cast<int32_t>(2 * low + ((step * fraction) >> 15));
}

uint32_t exp2_q31(uint32_t fraction_q16) {
  // log2(1 + x) >= x, so the segment is the one at this place or up to three before it.
  uint32_t segment = fraction_q16 >> (16 - kSegmentBits);
  while (2u * kLog2Q15[segment] > fraction_q16) --segment;
  const uint32_t low = 2u * kLog2Q15[segment];
  const uint32_t step = 2u * kLog2Q15[segment + 1] - low;
  // ((fraction - low) << 26) / step, in two divisions of 32 bits; the step is below 2^12.
  const uint32_t high = (fraction_q16 - low) << (kFractionBits / 2);
  const uint32_t rest = (high % step) << (kFractionBits / 2);
  const uint32_t within = (high / step << (kFractionBits / 2)) + rest / step;
  return 0x80000000u + (segment << kFractionBits) + within;
}

int32_t log2_above_floor_q16(uint64_t sum, int32_t scale_q16, int32_t floor_q16) {
  if (sum == 0) return floor_q16;
  const int32_t relative_q16 = floor_q16 - scale_q16;  // the floor in units of `sum`
  int32_t exponent = relative_q16 >> 16;
  const uint64_t mantissa = exp2_q31(static_cast<uint32_t>(relative_q16) & 0xFFFFu);
  // Keep the floor below 2^61, so that floor + sum < 2^64; a sum shifted out is 2^-60 of the floor.
  if (exponent > 60) {
    const int32_t drop = exponent - 60;
    sum = drop < 64 ? sum >> drop : 0;
    scale_q16 += drop * 65536;
    exponent = 60;
  }
  uint64_t floor = 0;
  if (exponent >= 31) {
    floor = mantissa << (exponent - 31);
  } else if (exponent > -32) {
    floor = mantissa >> (31 - exponent);
  }
  return log2_q16(sum + floor) + scale_q16;
}

}  // namespace kilotune
