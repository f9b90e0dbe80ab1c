// Dot products that dense layers are made of: one header, one plain and one SIMD implementation
// with the same bits.
#ifndef KILOTUNE_KERNEL_OPS_DENSE_H_
#define KILOTUNE_KERNEL_OPS_DENSE_H_

#include <cstdint>

namespace kilotune {

// sum over i of w[i] * x[i]; n <= 65535, so that the sum stays below 2^30.
int32_t dot_q(const int8_t* w, const int8_t* x, uint32_t n);

// Four rows of weights at once, `n` apart: sums[k] += row k times x.
void dot4_q(const int8_t* w, const int8_t* x, uint32_t n, int32_t sums[4]);

// One row of trained weights: the effective weight is w[i] >> 8, x is offset by -zero_point.
int32_t dot_trained(const int16_t* w, const int8_t* x, int32_t zero_point, uint32_t n);

// values[i] = sum over o of m[o] * w(o, i) for i < in: frozen weights (out, in) int8, or trained
// ones (out, in) int16 of which the high byte counts. The planner's mantissa width keeps it in
// int32.
void transpose_multiply(const int8_t* w, const int16_t* m, uint32_t out, uint32_t in,
                        int32_t* values);
void transpose_multiply(const int16_t* w, const int16_t* m, uint32_t out, uint32_t in,
                        int32_t* values);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_DENSE_H_
