// What is specific to the STM32F4 Discovery and its chip.
#ifndef KILOTUNE_BOARDS_STM32F4_DISCOVERY_CHIP_H_
#define KILOTUNE_BOARDS_STM32F4_DISCOVERY_CHIP_H_

#include <cstdint>

namespace kilotune::board {
constexpr uint32_t kChipId = 0x413;
constexpr bool kCrystalIsFed = false;  // has a crystal of 8 MHz
// Ports by number, A is 0. PD13 orange: learn, PD12 green: detect, PD14 red: anomaly; B1, the blue
// button.
constexpr uint32_t kLightPort = 3, kButtonPort = 0, kButtonPin = 0;
constexpr uint8_t kLightPins[] = {13, 12, 14, 12};
constexpr bool kButtonIsHigh = true;
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_STM32F4_DISCOVERY_CHIP_H_
