// Products that dense layers are made of: one header, one plain and one SIMD implementation with
// the same bits.
#ifndef KILOTUNE_KERNEL_OPS_DENSE_H_
#define KILOTUNE_KERNEL_OPS_DENSE_H_

#include <cstdint>

#include "kernel/ops/finish.h"

namespace kilotune {

// Start of the accumulators: the bias, and what training adds to it, in the accumulator's unit
// and rounded half up.
struct DenseBias {
  const uint8_t* frozen;  // i32 (out,), 4-aligned
  const int32_t* delta;   // (out,), null: none
  int shift = 1;          // its fraction bits

  [[nodiscard]] int32_t at(uint32_t o) const {
    const int32_t b = load_i32(frozen + 4 * o);
    if (delta == nullptr) return b;
    // Unsigned: a plan that lets other data be written here must not cause an overflow.
    const uint32_t rounded = static_cast<uint32_t>(delta[o]) + (1u << (shift - 1));
    return b + (static_cast<int32_t>(rounded) >> shift);
  }
};

inline DenseBias dense_bias(const Execution& run, const Op& op) {
  DenseBias bias = {aligned4(run.model->at(op.bias)), nullptr, 1};
  if (op.has(kBiasTrained)) {
    bias.delta = reinterpret_cast<const int32_t*>(run.adapter + op.bias_param);
    bias.shift = run.model->bias_fraction_bits(op);
  }
  return bias;
}

// A layer of frozen weights w (out, in) on x (in,): finish.put(o, bias(o) + sum of w(o, i) x(i)).
void dense_layer(const int8_t* w, const int8_t* x, uint32_t in, uint32_t out, const DenseBias& bias,
                 Finish& finish);

// sum over i of w[i] * x[i]; n <= 65535, so that the sum stays below 2^30.
int32_t dot_q(const int8_t* w, const int8_t* x, uint32_t n);

// Four rows of weights at once, `n` apart: sums[k] += row k times x.
void dot4_q(const int8_t* w, const int8_t* x, uint32_t n, int32_t sums[4]);

// One row of trained weights: the effective weight is w[i] >> 8, x is offset by -zero_point.
int32_t dot_trained(const int16_t* w, const int8_t* x, int32_t zero_point, uint32_t n);

// A layer of such rows (out, in).
void dense_trained(const int16_t* w, const int8_t* x, int32_t zero_point, uint32_t in, uint32_t out,
                   const DenseBias& bias, Finish& finish);

// values[i] = sum over o of m[o] * w(o, i) for i < in: frozen weights (out, in) int8, or trained
// ones (out, in) int16 of which the high byte counts. The planner's mantissa width keeps the sums
// in int32.
void transpose_multiply(const int8_t* w, const int16_t* m, uint32_t out, uint32_t in,
                        int32_t* values);
void transpose_multiply(const int16_t* w, const int16_t* m, uint32_t out, uint32_t in,
                        int32_t* values);

// values[i] += sum over o of m[o] * w[o * stride + i] for i < n, wrapping.
void transpose_add(const int8_t* w, const int16_t* m, uint32_t out, uint32_t stride, uint32_t n,
                   int32_t* values);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_DENSE_H_
