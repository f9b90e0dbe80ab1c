// Reset and clock control of an STM32F4 (ST RM0090, RM0390, RCC): what several drivers need of it.
#ifndef KILOTUNE_BOARDS_STM32F4_RCC_H_
#define KILOTUNE_BOARDS_STM32F4_RCC_H_

#include "boards/common/cortex_m/core.h"

namespace kilotune::board {

constexpr uintptr_t kRcc = 0x40023800;
constexpr uintptr_t kRccConfig = kRcc + 0x08;
constexpr uintptr_t kRccAhb1Enable = kRcc + 0x30;
constexpr uintptr_t kRccApb1Enable = kRcc + 0x40;

// Whether the core, and with it every bus, is clocked by the PLL.
inline bool runs_from_pll() { return (reg(kRccConfig) & 3u << 2) == 2u << 2; }

// Clocks the peripheral of a bit on APB1.
inline void start_apb1(uint32_t bit) {
  reg(kRccApb1Enable) |= bit;
  static_cast<void>(wait_until([bit] { return (reg(kRccApb1Enable) & bit) != 0; }, 100));
}

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_STM32F4_RCC_H_
