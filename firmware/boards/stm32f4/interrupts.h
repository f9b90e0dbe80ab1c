// Interrupts of the STM32F4 that are used.
#ifndef KILOTUNE_BOARDS_STM32F4_INTERRUPTS_H_
#define KILOTUNE_BOARDS_STM32F4_INTERRUPTS_H_

#include "boards/common/cortex_m/interrupt.h"

namespace kilotune::board {
constexpr uint32_t kInterruptCount = 39;
constexpr int32_t kUsart2Interrupt = 38;
void on_usart2();
void on_tick();
constexpr Interrupt kInterrupts[] = {{kSysTick, on_tick}, {kUsart2Interrupt, on_usart2}};
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_STM32F4_INTERRUPTS_H_
