// The serial port of a Nordic board: its registers differ between the nRF51 and the nRF52.
#ifndef KILOTUNE_BOARDS_NRF_SERIAL_H_
#define KILOTUNE_BOARDS_NRF_SERIAL_H_

#include <cstdint>

#include "boards/common/cortex_m/port.h"
#include "chip.h"

namespace kilotune::board {

// Common to both
constexpr uintptr_t kUart = 0x40002000;
constexpr uintptr_t kUartStartReceive = kUart + 0x000;
constexpr uintptr_t kUartStartTransmit = kUart + 0x008;
constexpr uintptr_t kUartError = kUart + 0x124;
constexpr uintptr_t kUartInterruptSet = kUart + 0x304;
constexpr uintptr_t kUartErrorSource = kUart + 0x480;  // write 1 to clear
constexpr uintptr_t kUartEnable = kUart + 0x500;
constexpr uintptr_t kUartPinTransmit = kUart + 0x50C;
constexpr uintptr_t kUartPinReceive = kUart + 0x514;
constexpr uintptr_t kUartBaud = kUart + 0x524;
constexpr uint32_t kUartErrorInterrupt = 1u << 9;
constexpr uint32_t kUartOverrun = 1;

constexpr uintptr_t kPinOutSet = 0x50000508;  // of port 0
constexpr uintptr_t kPinDirectionSet = 0x50000518;

// Receives from now on; the interrupt itself is enabled by the caller.
void start_serial();

inline void connect_serial_pins() {
  reg(kPinOutSet) = 1u << kTransmitPin;
  reg(kPinDirectionSet) = 1u << kTransmitPin;
  reg(kUartPinTransmit) = kTransmitPin;
  reg(kUartPinReceive) = kReceivePin;
}

[[gnu::always_inline]] inline void count_serial_errors() {
  if (reg(kUartError) == 0) return;
  reg(kUartError) = 0;
  const uint32_t source = reg(kUartErrorSource);
  reg(kUartErrorSource) = source;
  if ((source & kUartOverrun) != 0) serial_ring.count_lost();
}

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_NRF_SERIAL_H_
