// What is specific to the Nucleo-F446RE and its chip.
#ifndef KILOTUNE_BOARDS_NUCLEO_F446RE_CHIP_H_
#define KILOTUNE_BOARDS_NUCLEO_F446RE_CHIP_H_

#include <cstdint>

namespace kilotune::board {
constexpr uint32_t kChipId = 0x421;
constexpr bool kCrystalIsFed = true;  // 8 MHz from the ST-LINK
// Ports by number, A is 0: LD2 on PA5, B1 on PC13.
constexpr uint32_t kLightPort = 0, kButtonPort = 2, kButtonPin = 13;
constexpr uint8_t kLightPins[] = {5, 5, 5, 5};
constexpr bool kButtonIsHigh = false;
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_NUCLEO_F446RE_CHIP_H_
