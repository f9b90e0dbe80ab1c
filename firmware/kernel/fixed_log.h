// Logarithms to base 2 in fixed point: the scale on which every feature is measured.
#ifndef KILOTUNE_KERNEL_FIXED_LOG_H_
#define KILOTUNE_KERNEL_FIXED_LOG_H_

#include <cstdint>

namespace kilotune {

// log2(value) in Q16, 0 for value 0 as for 1: 32 chords per octave. Too low by at most 2.1e-4
// (1.8e-4 from the chord, the rest from rounding), never too high by more than 2^-15; never
// decreases as value grows.
[[nodiscard]] int32_t log2_q16(uint64_t value);

[[nodiscard]] inline int32_t log2_q10(uint64_t value) { return log2_q16(value) >> 6; }

// 2^fraction for fraction_q16 in [0, 65535], as Q31 in [2^31, 2^32): log2_q16 of it gives fraction
// again, to 2^-16.
[[nodiscard]] uint32_t exp2_q31(uint32_t fraction_q16);

// log2(sum * 2^scale + 2^floor) in Q16, with an error of -3e-4 to +1e-4; a floor of less than one
// unit of `sum` is dropped. sum < 2^63; scale and floor in Q16, magnitudes below 2^24.
[[nodiscard]] int32_t log2_above_floor_q16(uint64_t sum, int32_t scale_q16, int32_t floor_q16);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_FIXED_LOG_H_
