// Block floating point: one exponent per position, mantissas as wide as the planner allows.
#include "kernel/ops/mantissas.h"
#include "kernel/ops/op.h"

namespace kilotune {

int largest_exponent(const int16_t* exponents, uint32_t positions) {
  int top = kZeroExponent;
  for (uint32_t p = 0; p < positions; ++p) top = exponents[p] > top ? exponents[p] : top;
  return top;
}
namespace {

// round(v * 2^n), for results below 2^29.
int32_t shift_to(int32_t v, int n) {
  if (n >= 0) return n > 31 ? 0 : static_cast<int32_t>(static_cast<uint32_t>(v) << n);
  if (n < -31) return 0;
  return ((v >> (-n - 1)) + 1) >> 1;
}

}  // namespace

[[gnu::cold, gnu::noinline]] int32_t to_mantissa(int32_t v, int shift, int bits) {
  const int32_t limit = (1 << bits) - 1;
  // v >> (shift - 1) fits 31 bits, so that adding the rounding bit cannot overflow.
  const int32_t m = shift > 0 ? ((v >> (shift - 1)) + 1) >> 1
                              : static_cast<int32_t>(static_cast<uint32_t>(v) << -shift);
  return clamp(m, -limit, limit);
}

void store_gradient(const Execution& run, const Tensor& t, uint32_t position, int32_t* values,
                    int exponent) {
  const uint32_t n = t.channels;
  const uint8_t* mask = run.mask(t);
  if (mask != nullptr) mask += position * ((n + 7) / 8);
  const uint32_t largest = mask_values(values, mask, n);
  // Mantissas may lie over the values: each int16 is written after the int32 there was read.
  int16_t* mantissa = run.mantissas(t) + position * n;
  int16_t* exponents = run.exponents(t);
  const int shift = largest == 0 ? 0 : mantissa_shift(largest, t.mantissa_bits);
  if (!kSmallCode && shift > 1 && !rounding_carries(largest, shift, t.mantissa_bits)) {
    round_values(values, shift, n, mantissa);
  } else {
    for (uint32_t i = 0; i < n; ++i)
      mantissa[i] = static_cast<int16_t>(to_mantissa(values[i], shift, t.mantissa_bits));
  }
  if (largest == 0) {
    exponents[position] = t.positions() == 1 ? int16_t{0} : kZeroExponent;
  } else {
    exponents[position] =
        static_cast<int16_t>(clamp(exponent + shift, -kRealExponentMax, kRealExponentMax));
  }
}

void put_gradient(const Execution& run, const Tensor& t, uint32_t position, int32_t* values,
                  int exponent, Real factor, bool add) {
  constexpr int kSumBits = 29;  // of each part, so that a sum of two stays in int32
  if (!add && factor.is_zero())
    return store_gradient(run, t, position, values, exponent + factor.exponent);
  const uint32_t n = t.channels;
  uint32_t all = 0;
  for (uint32_t i = 0; i < n; ++i) {
    if (!factor.is_zero())
      values[i] = static_cast<int32_t>((static_cast<int64_t>(values[i]) * factor.mantissa) >> 16);
    all |= static_cast<uint32_t>(values[i] ^ (values[i] >> 31));
  }
  exponent += factor.exponent + (factor.is_zero() ? 0 : 16);
  const int16_t* present = run.mantissas(t) + position * n;
  int old = run.exponents(t)[position];
  uint32_t any = 0;
  for (uint32_t i = 0; add && i < n; ++i) any |= static_cast<uint16_t>(present[i]);
  if (any != 0) {
    const int bits = all == 0 ? 0 : 32 - __builtin_clz(all);
    // Exponents differ by a few dozen; what is too far below the larger one vanishes.
    const int top = all == 0 ? old + 15 : (exponent + bits > old + 15 ? exponent + bits : old + 15);
    const int common = top - kSumBits;
    for (uint32_t i = 0; i < n; ++i) {
      values[i] = shift_to(values[i], exponent - common) + shift_to(present[i], old - common);
    }
    exponent = common;
  }
  store_gradient(run, t, position, values, exponent);
}

}  // namespace kilotune
