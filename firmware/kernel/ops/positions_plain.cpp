// Layers with positions, one after the other.
#include "kernel/ops/positions.h"

#ifndef __ARM_FEATURE_DSP

namespace kilotune {

void dense_positions(const int8_t* w, Patches& patches, uint32_t positions, uint32_t in,
                     uint32_t out, const DenseBias& bias, Finish& finish, uint8_t* scratch) {
  for (; positions != 0; --positions) {
    dense_layer(w, patches.next_apart(scratch), in, out, bias, finish);
    finish.flush(out);
    finish.next(out);
  }
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
