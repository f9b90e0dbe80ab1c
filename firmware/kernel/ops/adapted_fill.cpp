// Makes the int8 weights of layers that are trained in part: the inner loop of such layers.
#include "kernel/ops/adapted.h"

namespace kilotune {

int32_t AdaptedWeights::fill(const int16_t* values, uint32_t o, uint32_t first, uint32_t n,
                             int8_t* to) const {
  int32_t total = 0;
  if (rank_ == 0) {
    const int16_t* row = values + slot(o) * fan_in_ + first;
    for (uint32_t i = 0; i < n; ++i) {
      const int32_t w = row[i] >> 8;
      to[i] = static_cast<int8_t>(w);
      total += w;
    }
    return total;
  }
  constexpr uint32_t kChunk = 16;  // sums that are formed at a time
  const int8_t* base = this->base(o) + first;
  const int16_t *a = values + first, *b = values + rank_ * fan_in_ + o * rank_;
  for (uint32_t i = 0; i < n; i += kChunk, a += kChunk) {
    const uint32_t m = n - i < kChunk ? n - i : kChunk;
    int32_t sums[kChunk];
    for (uint32_t j = 0; j < m; ++j) sums[j] = *b * a[j] + (1 << (kFactorBits - 1));
    for (uint32_t k = 1; k < rank_; ++k) {
      const int16_t* row = a + k * fan_in_;
      for (uint32_t j = 0; j < m; ++j) sums[j] += b[k] * row[j];
    }
    for (uint32_t j = 0; j < m; ++j) {
      int32_t w = base[i + j] + (sums[j] >> kFactorBits);
      if (w > 127) w = 127;
      if (w < -127) w = base[i + j] == -128 && w <= -128 ? -128 : -127;
      to[i + j] = static_cast<int8_t>(w);
      total += w;
    }
  }
  return total;
}

}  // namespace kilotune
