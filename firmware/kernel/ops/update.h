// Parameter updates with stochastic rounding: no update is lost, however small.
#ifndef KILOTUNE_KERNEL_OPS_UPDATE_H_
#define KILOTUNE_KERNEL_OPS_UPDATE_H_

#include <cstdint>

#include "kernel/ops/op.h"

namespace kilotune {

// Updates int32 bias deltas (channels,) from the gradient (channels,) of one position.
void update_bias(const Execution& run, const Op& op, const OpTraining& plan, uint32_t channels,
                 const int16_t* mantissa, int exponent, Step& step);

// The same from all positions of the output's gradient: their sum a channel.
void update_bias_positions(const Execution& run, const Op& op, const OpTraining& plan,
                           const Tensor& y, Step& step);

// Updates int16 weights (out, in) from the output's gradient (out,) and the op's input (in,).
void update_weights(const Execution& run, const Op& op, const OpTraining& plan, uint32_t out,
                    uint32_t in, const int16_t* mantissa, int exponent, const int8_t* x,
                    int32_t zero_point, Step& step);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_UPDATE_H_
