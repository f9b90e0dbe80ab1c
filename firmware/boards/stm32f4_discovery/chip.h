// What the STM32F4 Discovery and its chip have of their own.
#ifndef KILOTUNE_BOARDS_STM32F4_DISCOVERY_CHIP_H_
#define KILOTUNE_BOARDS_STM32F4_DISCOVERY_CHIP_H_

#include <cstdint>

namespace kilotune::board {
constexpr uint32_t kChipId = 0x413;
constexpr bool kCrystalIsFed = false;  // has a crystal of 8 MHz
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_STM32F4_DISCOVERY_CHIP_H_
