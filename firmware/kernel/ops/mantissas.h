// Gradients of one position as mantissas: one header, one plain and one SIMD implementation with
// the same bits.
#ifndef KILOTUNE_KERNEL_OPS_MANTISSAS_H_
#define KILOTUNE_KERNEL_OPS_MANTISSAS_H_

#include <cstdint>

// Where small code is wanted, the plain implementation is used.
#if defined(__ARM_FEATURE_DSP) && !defined(__OPTIMIZE_SIZE__)
#define KILOTUNE_MANTISSAS_DSP 1
#else
#define KILOTUNE_MANTISSAS_DSP 0
#endif

namespace kilotune {

// Values whose bit of the mask (null: all ones) is 0 become 0. Returns the largest magnitude, v or
// ~v, or a number that mantissa_shift() and rounding_carries() cannot tell from it.
uint32_t mask_values(int32_t* values, const uint8_t* mask, uint32_t n);

// mantissa[i] = round(values[i] / 2^shift), halves up, shift in 2..30; mantissas may lie over the
// front of the values.
void round_values(const int32_t* values, int shift, uint32_t n, int16_t* mantissa);

// m[i] = round(m[i] / 2^d), halves up, d in 1..15; with factors up to 2^15, round(m[i] * factors[i]
// / 2^(15 + d)), d in 0..15.
void align_mantissas(int16_t* m, uint32_t n, int d);
void align_mantissas(int16_t* m, const uint16_t* factors, uint32_t n, int d);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_MANTISSAS_H_
