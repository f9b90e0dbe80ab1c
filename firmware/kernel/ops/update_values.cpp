// Updates of int16 values from int32 gradients, for weights that are trained in part.
#include "kernel/ops/update.h"

namespace kilotune {

void update_values(int16_t* values, int16_t* state, const int32_t* gradient, uint32_t n,
                   int exponent, Real factor, const ValueRange& range, Step& step) {
  if (step.adam != nullptr) {
    step.adam->kernel->values(values, state, gradient, n, exponent, factor, range, step);
    return;
  }
  uint32_t all = 0;
  for (uint32_t i = 0; i < n; ++i) all |= static_cast<uint32_t>(gradient[i] ^ (gradient[i] >> 31));
  const bool plain = state == nullptr && step.decay.is_zero();
  if (plain && all == 0) return;
  // 15 bits of the gradient times 14 of the factor: below 2^30, as rounding wants it.
  const int shift = all < 0x8000u ? 0 : 17 - __builtin_clz(all);
  const int32_t coefficient = factor.mantissa >> 2;
  const int scale = exponent + shift + factor.exponent + 2;
  for (uint32_t i = 0; i < n; ++i) {
    const int32_t g = shift == 0 ? gradient[i] : ((gradient[i] >> (shift - 1)) + 1) >> 1;
    int32_t change = round_stochastically(-g * coefficient, scale, step.random);
    if (!plain) {
      int32_t v = state == nullptr ? 0 : state[i];
      const int32_t base = range.base == nullptr ? 0 : range.base[i] * range.unit + range.offset;
      change =
          general_change(change, state == nullptr ? nullptr : &v, 32767, values[i] - base, step);
      if (state != nullptr) state[i] = static_cast<int16_t>(v);
    }
    values[i] = static_cast<int16_t>(add_clamped(values[i], change, range.low, range.high, step));
  }
}

}  // namespace kilotune
