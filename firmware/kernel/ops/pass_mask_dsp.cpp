// Pass masks, four outputs at a time.
#include "kernel/ops/pass_mask.h"

#ifdef __ARM_FEATURE_DSP

#include "kernel/ops/dsp.h"

namespace kilotune {

void record_passes(const int8_t* y, uint32_t positions, uint32_t channels, int32_t low,
                   int32_t high, uint8_t* mask) {
  const PassTest test(low, high);
  for (; positions != 0; --positions) {
    uint32_t left = channels;
    for (; left >= 8; left -= 8, y += 8)
      *mask++ = static_cast<uint8_t>(test.passes(word(y)) | test.passes(word(y + 4)) << 4);
    if (left == 0) continue;
    uint32_t bits = 0;
    for (uint32_t at = 0; at < left; ++at, ++y) bits |= (*y > low && *y < high ? 1u : 0u) << at;
    *mask++ = static_cast<uint8_t>(bits);
  }
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
