// What the Nucleo-F446RE and its chip have of their own.
#ifndef KILOTUNE_BOARDS_NUCLEO_F446RE_CHIP_H_
#define KILOTUNE_BOARDS_NUCLEO_F446RE_CHIP_H_

#include <cstdint>

namespace kilotune::board {
constexpr uint32_t kChipId = 0x421;
constexpr bool kCrystalIsFed = true;  // 8 MHz from the ST-LINK
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_NUCLEO_F446RE_CHIP_H_
