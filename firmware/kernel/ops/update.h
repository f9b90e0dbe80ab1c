// Parameter updates with stochastic rounding: no update is lost, however small.
#ifndef KILOTUNE_KERNEL_OPS_UPDATE_H_
#define KILOTUNE_KERNEL_OPS_UPDATE_H_

#include <cstdint>

#include "kernel/ops/op.h"

namespace kilotune {

// Updates int32 bias deltas (channels,) from the gradient (channels,) of one position.
void update_bias(const Execution& run, const Op& op, const OpTraining& plan, uint32_t channels,
                 const int16_t* mantissa, int exponent, Step& step);

// The same from all positions of the output's gradient: their sum per channel.
void update_bias_positions(const Execution& run, const Op& op, const OpTraining& plan,
                           const Tensor& y, Step& step);

// Updates int16 weights (out, in) from the output's gradient (out,) and the op's input (in,).
void update_weights(const Execution& run, const Op& op, const OpTraining& plan, uint32_t out,
                    uint32_t in, const int16_t* mantissa, int exponent, const int8_t* x,
                    int32_t zero_point, Step& step);

// Updates n int16 values from sums of gradients: value[i] -= gradient[i] * 2^exponent * factor,
// kept within low to high. Weight decay pulls towards base[i] * unit + offset (null: 0).
struct ValueRange {
  int32_t low, high;
  const int8_t* base;
  int32_t unit, offset;
};
void update_values(int16_t* values, int16_t* state, const int32_t* gradient, uint32_t n,
                   int exponent, Real factor, const ValueRange& range, Step& step);

// Parts of an update: round(value * 2^exponent), |value| < 2^30, up or down with a probability
// given by the distance; what to add to a parameter that is `distance` from the base model's, with
// momentum, accumulation (state, null: none) and decay; a sum, clamped to its range.
[[nodiscard]] int32_t round_stochastically(int32_t value, int exponent, Random& random);
[[nodiscard]] int32_t general_change(int32_t change, int32_t* state, int32_t limit,
                                     int32_t distance, Step& step);
[[nodiscard]] int32_t add_clamped(int32_t a, int32_t b, int32_t low, int32_t high, Step& step);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_UPDATE_H_
