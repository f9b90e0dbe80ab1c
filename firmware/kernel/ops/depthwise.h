// Products of one channel's plane with its window: one header, one plain and one SIMD
// implementation with the same bits.
#ifndef KILOTUNE_KERNEL_OPS_DEPTHWISE_H_
#define KILOTUNE_KERNEL_OPS_DEPTHWISE_H_

#include <cstdint>

namespace kilotune {

constexpr uint32_t kTapRows = 3, kTapColumns = 4;  // at most this many at once

// A block of a channel's window as int16, zeros where it is smaller.
struct TapBlock {
  alignas(4) int16_t weights[kTapRows][kTapColumns];
  uint32_t rows, columns;  // 1 to kTapRows, 1 to kTapColumns
};

// sums[i] += sum over rows r and columns c of w(r, c) * x[r][i * stride + c], for i < n.
// Each row can be read up to x[r][(n - 1) * stride + kTapColumns - 1].
void add_taps(const TapBlock& block, const int16_t* const x[kTapRows], uint32_t stride,
              int32_t* sums, uint32_t n);

// Outputs of one channel, `step` bytes apart, from their accumulators.
struct ChannelFinish {
  int32_t multiplier;
  int shift;
  int32_t zero_point, low, high;
};
void finish_channel(const ChannelFinish& finish, const int32_t* sums, uint32_t n, int8_t* y,
                    uint32_t step);

// values[i] += w[i] * m[i], wrapping.
void add_products(const int8_t* w, const int16_t* m, int32_t* values, uint32_t n);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_DEPTHWISE_H_
