// Interrupts of the MPS2 FPGA images AN385 and AN386 that are used: UART 0 receive is number 0.
#ifndef KILOTUNE_BOARDS_MPS2_INTERRUPTS_H_
#define KILOTUNE_BOARDS_MPS2_INTERRUPTS_H_

namespace kilotune::board {
constexpr uint32_t kInterruptCount = 1;
constexpr uint32_t kUart0ReceiveInterrupt = 0;
void on_uart0_receive();
}  // namespace kilotune::board

#define KILOTUNE_INTERRUPTS \
  { on_uart0_receive }

#endif  // KILOTUNE_BOARDS_MPS2_INTERRUPTS_H_
