// Interrupts of the MPS2+ FPGA image AN505 that are used.
#ifndef KILOTUNE_BOARDS_MPS2_AN505_INTERRUPTS_H_
#define KILOTUNE_BOARDS_MPS2_AN505_INTERRUPTS_H_

#include "boards/common/cortex_m/interrupt.h"

namespace kilotune::board {
constexpr uint32_t kInterruptCount = 33;
constexpr int32_t kUart0ReceiveInterrupt = 32;
void on_uart0_receive();
constexpr Interrupt kInterrupts[] = {{kUart0ReceiveInterrupt, on_uart0_receive}};
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_MPS2_AN505_INTERRUPTS_H_
