// Interrupts of the nRF51 and nRF52 that are used; their numbers are the same.
#ifndef KILOTUNE_BOARDS_NRF_INTERRUPTS_H_
#define KILOTUNE_BOARDS_NRF_INTERRUPTS_H_

#include "boards/common/cortex_m/interrupt.h"

namespace kilotune::board {
constexpr uint32_t kInterruptCount = 9;
constexpr int32_t kUartInterrupt = 2, kTimerInterrupt = 8;
void on_uart();
void on_tick();
constexpr Interrupt kInterrupts[] = {{kUartInterrupt, on_uart}, {kTimerInterrupt, on_tick}};
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_NRF_INTERRUPTS_H_
