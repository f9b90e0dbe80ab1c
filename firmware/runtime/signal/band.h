// One band of a feature section: which bins it has, and with what weights.
#ifndef KILOTUNE_RUNTIME_SIGNAL_BAND_H_
#define KILOTUNE_RUNTIME_SIGNAL_BAND_H_

#include <cstdint>

#include "kernel/bytes.h"

namespace kilotune {

constexpr uint32_t kBandBytes = 12;
constexpr int kEnergyDrop = 12;  // bits of a bin's energy that make room for its weight

struct Band {
  uint32_t first, end;  // bins, end exclusive
  int32_t centre;       // in 1/32 bin
  int32_t half_width;   // in 1/32 bin, 0 = flat
  int32_t log2_weights_q10;

  // Below 2^16. A flat band's weight of 1 is 2^kEnergyDrop here, which undoes the drop.
  [[nodiscard]] int32_t weight(uint32_t bin) const {
    if (half_width == 0) return 1 << kEnergyDrop;
    const int32_t distance = static_cast<int32_t>(32 * bin) - centre;
    return half_width - (distance < 0 ? -distance : distance);
  }
};

inline Band load_band(const uint8_t* p) {
  return {load_u16(p), load_u16(p + 2), load_u16(p + 4), load_u16(p + 6), load_i16(p + 8)};
}

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_SIGNAL_BAND_H_
