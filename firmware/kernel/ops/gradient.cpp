// Block floating point: one exponent a position, mantissas as wide as the planner allows.
#include "kernel/ops/op.h"

namespace kilotune {
namespace {

bool passes(const uint8_t* mask, uint32_t i) { return ((mask[i >> 3] >> (i & 7u)) & 1u) != 0; }

}  // namespace

void store_gradient(const Execution& run, const Tensor& t, uint32_t position, const int32_t* values,
                    int exponent) {
  const uint32_t n = t.channels;
  const uint8_t* mask = run.mask(t);
  if (mask != nullptr) mask += position * ((n + 7) / 8);

  // The union of all magnitudes has the bits of the largest one.
  uint32_t all = 0;
  for (uint32_t i = 0; i < n; ++i) {
    const int32_t v = values[i];
    if (mask == nullptr || passes(mask, i)) all |= static_cast<uint32_t>(v ^ (v >> 31));
  }
  // Mantissas may lie over the values: each int16 is written after the int32 at or behind it.
  int16_t* mantissa = run.mantissas(t) + position * n;
  int16_t* exponents = run.exponents(t);
  if (all == 0) {
    for (uint32_t i = 0; i < n; ++i) mantissa[i] = 0;
    exponents[position] = 0;
    return;
  }
  const int shift = 32 - __builtin_clz(all) - t.mantissa_bits;
  const int32_t limit = (1 << t.mantissa_bits) - 1;
  for (uint32_t i = 0; i < n; ++i) {
    int32_t v = values[i];
    if (mask != nullptr && !passes(mask, i)) {
      v = 0;
    } else if (shift > 0) {
      // v >> (shift - 1) fits 31 bits, so that adding the rounding bit cannot overflow.
      v = ((v >> (shift - 1)) + 1) >> 1;
      v = clamp(v, -limit, limit);
    } else {
      v = clamp(v * (1 << -shift), -limit, limit);
    }
    mantissa[i] = static_cast<int16_t>(v);
  }
  exponents[position] =
      static_cast<int16_t>(clamp(exponent + shift, -kRealExponentMax, kRealExponentMax));
}

}  // namespace kilotune
