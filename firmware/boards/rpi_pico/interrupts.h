// Interrupts of the RP2040 that are used.
#ifndef KILOTUNE_BOARDS_RPI_PICO_INTERRUPTS_H_
#define KILOTUNE_BOARDS_RPI_PICO_INTERRUPTS_H_

#include "boards/common/cortex_m/interrupt.h"

namespace kilotune::board {
constexpr uint32_t kInterruptCount = 21;
constexpr int32_t kUart0Interrupt = 20;
void on_uart0();
void on_tick();
constexpr Interrupt kInterrupts[] = {{kSysTick, on_tick}, {kUart0Interrupt, on_uart0}};
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_RPI_PICO_INTERRUPTS_H_
