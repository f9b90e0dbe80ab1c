// Pass masks in plain C++.
#include "kernel/ops/pass_mask.h"

#ifndef __ARM_FEATURE_DSP

namespace kilotune {

void record_passes(const int8_t* y, uint32_t positions, uint32_t channels, int32_t low,
                   int32_t high, uint8_t* mask) {
  for (; positions != 0; --positions) {
    uint32_t bits = 0, at = 0;
    for (uint32_t c = channels; c != 0; --c, ++y) {
      bits |= (*y > low && *y < high ? 1u : 0u) << at;
      if (++at < 8 && c != 1) continue;
      *mask++ = static_cast<uint8_t>(bits);
      bits = at = 0;
    }
  }
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
