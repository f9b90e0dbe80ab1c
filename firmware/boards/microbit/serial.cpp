// UART of the nRF51: one byte at a time, with a queue of six in hardware.
#include "serial.h"

#include "boards/board.h"
#include "boards/common/cortex_m/startup.h"

namespace kilotune::board {
namespace {

constexpr uintptr_t kReceived = kUart + 0x108;
constexpr uintptr_t kTransmitted = kUart + 0x11C;
constexpr uintptr_t kReceive = kUart + 0x518;
constexpr uintptr_t kTransmit = kUart + 0x51C;
constexpr uint32_t kReceivedInterrupt = 1u << 2;
constexpr uint32_t kEnabled = 4;
constexpr uint32_t kBaud115200 = 0x01D7E000;

}  // namespace

void start_serial() {
  connect_serial_pins();
  reg(kUartBaud) = kBaud115200;
  reg(kUartEnable) = kEnabled;
  reg(kReceived) = 0;
  reg(kUartInterruptSet) = kReceivedInterrupt | kUartErrorInterrupt;
  reg(kUartStartReceive) = 1;
  reg(kUartStartTransmit) = 1;
}

KILOTUNE_BUSY_CODE void on_uart() {
  while (reg(kReceived) != 0) {
    reg(kReceived) = 0;  // before the byte is read: the next one sets it anew
    serial_ring.put(static_cast<uint8_t>(reg(kReceive)));
  }
  count_serial_errors();
}

// This line takes a byte in 87 us, whoever listens: there is nothing to be patient with.
void write(const uint8_t* data, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) {
    reg(kTransmitted) = 0;
    reg(kTransmit) = data[i];
    while (reg(kTransmitted) == 0) {
    }
  }
}

}  // namespace kilotune::board
