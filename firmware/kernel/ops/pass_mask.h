// Which outputs let gradients pass: those strictly between the ends of their activation.
#ifndef KILOTUNE_KERNEL_OPS_PASS_MASK_H_
#define KILOTUNE_KERNEL_OPS_PASS_MASK_H_

#include <cstdint>

namespace kilotune {

// One bit per output, least significant first; each position begins with a new byte.
void record_passes(const int8_t* y, uint32_t positions, uint32_t channels, int32_t low,
                   int32_t high, uint8_t* mask);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_PASS_MASK_H_
