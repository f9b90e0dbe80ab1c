// From accumulators to int8 outputs, one at a time.
#include "kernel/ops/finish.h"

namespace kilotune {

bool all_shifts_short(const int8_t* shifts, uint32_t n) {
  for (; n != 0; --n) {
    if (!shifts_short(*shifts++)) return false;
  }
  return true;
}

void Finish::put(uint32_t o, int32_t acc) {
  const int32_t scaled =
      requantise(acc, load_i32(multipliers + 4 * o * stride), shifts[o * stride]);
  // |scaled| < 2^31 - 2^7 for a right shift; a left shift may saturate.
  const int32_t q = clamp(clamp(scaled, -512, 512) + zero_point, low, high);
  y[o] = static_cast<int8_t>(q);
  if (mask == nullptr) return;
  bits = (bits >> 1) | (q > low && q < high ? 0x80u : 0u);
  if ((o & 7u) == 7u) mask[o >> 3] = static_cast<uint8_t>(bits);
}

}  // namespace kilotune
