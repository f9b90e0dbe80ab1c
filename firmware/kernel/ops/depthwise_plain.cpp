// Depthwise products in plain C++, for cores without dual 16-bit multiplies.
#include "kernel/ops/depthwise.h"

#ifndef __ARM_FEATURE_DSP

#include "kernel/ops/op.h"

namespace kilotune {

void add_taps(const TapBlock& block, const int16_t* const x[kTapRows], uint32_t stride,
              int32_t* sums, uint32_t n) {
  for (uint32_t r = 0; r < block.rows; ++r) {
    const int16_t *w = block.weights[r], *in = x[r];
    for (uint32_t i = 0; i < n; ++i, in += stride) {
      int32_t sum = sums[i] + w[0] * in[0];
      if (block.columns > 1) sum += w[1] * in[1] + w[2] * in[2] + w[3] * in[3];
      sums[i] = sum;
    }
  }
}

void finish_channel(const ChannelFinish& finish, const int32_t* sums, uint32_t n, int8_t* y,
                    uint32_t step) {
  for (uint32_t i = 0; i < n; ++i, y += step) {
    const int32_t scaled = clamp(requantise(sums[i], finish.multiplier, finish.shift), -512, 512);
    *y = static_cast<int8_t>(clamp(scaled + finish.zero_point, finish.low, finish.high));
  }
}

void add_products(const int8_t* w, const int16_t* m, int32_t* values, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) values[i] = add_wrapping(values[i], m[i] * w[i]);
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
