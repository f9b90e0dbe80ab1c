// Gradients of one position in plain C++.
#include "kernel/ops/mantissas.h"

#if !KILOTUNE_MANTISSAS_DSP

namespace kilotune {
namespace {

// Returns the largest of the value's magnitude and `largest`.
inline uint32_t mask_value(int32_t& value, uint32_t bits, uint32_t k, uint32_t largest) {
  const int32_t v = value & -static_cast<int32_t>((bits >> k) & 1u);
  value = v;
  const uint32_t magnitude = static_cast<uint32_t>(v ^ (v >> 31));
  return magnitude > largest ? magnitude : largest;
}

}  // namespace

uint32_t mask_values(int32_t* values, const uint8_t* mask, uint32_t n) {
  uint32_t largest = 0, bits = 0xFFu;
#ifndef __OPTIMIZE_SIZE__
  for (; n >= 8; n -= 8, values += 8) {
    if (mask != nullptr) bits = *mask++;
    largest = mask_value(values[0], bits, 0, largest);
    largest = mask_value(values[1], bits, 1, largest);
    largest = mask_value(values[2], bits, 2, largest);
    largest = mask_value(values[3], bits, 3, largest);
    largest = mask_value(values[4], bits, 4, largest);
    largest = mask_value(values[5], bits, 5, largest);
    largest = mask_value(values[6], bits, 6, largest);
    largest = mask_value(values[7], bits, 7, largest);
  }
#endif
  for (uint32_t i = 0; i < n; ++i) {
    if (mask != nullptr && (i & 7u) == 0) bits = *mask++;
    largest = mask_value(values[i], bits, i & 7u, largest);
  }
  return largest;
}

void round_values(const int32_t* values, int shift, uint32_t n, int16_t* mantissa) {
  for (uint32_t i = 0; i < n; ++i) {
    // v >> (shift - 1) fits 31 bits, so that adding the rounding bit cannot overflow.
    mantissa[i] = static_cast<int16_t>(((values[i] >> (shift - 1)) + 1) >> 1);
  }
}

void align_mantissas(int16_t* m, uint32_t n, int d) {
  const int32_t half = 1 << (d - 1);
  for (uint32_t i = 0; i < n; ++i) m[i] = static_cast<int16_t>((m[i] + half) >> d);
}

void align_mantissas(int16_t* m, const uint16_t* factors, uint32_t n, int d) {
  // The product is below 2^30, the half at most 2^29 more.
  const int shift = d + 15;
  const int32_t half = 1 << (shift - 1);
  for (uint32_t i = 0; i < n; ++i) m[i] = static_cast<int16_t>((m[i] * factors[i] + half) >> shift);
}

}  // namespace kilotune

#endif  // KILOTUNE_MANTISSAS_DSP
