// UARTE of the nRF52: every byte moves by DMA, received bytes one at a time, so that each raises an
// interrupt; meanwhile the next bytes wait in the hardware's queue.
#include "serial.h"

#include "boards/board.h"
#include "boards/common/cortex_m/startup.h"

namespace kilotune::board {
namespace {

constexpr uintptr_t kReceiveEnded = kUart + 0x110;
constexpr uintptr_t kTransmitEnded = kUart + 0x120;
constexpr uintptr_t kReceiveAddress = kUart + 0x534;
constexpr uintptr_t kReceiveLength = kUart + 0x538;
constexpr uintptr_t kTransmitAddress = kUart + 0x544;
constexpr uintptr_t kTransmitLength = kUart + 0x548;
constexpr uint32_t kReceiveEndedInterrupt = 1u << 4;
constexpr uint32_t kEnabled = 8;
constexpr uint32_t kBaud115200 = 0x01D60000;

uint32_t address_of(const volatile void* p) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(p));
}

// DMA reads and writes RAM only.
volatile uint8_t received;
volatile uint8_t to_send[64];

}  // namespace

void start_serial() {
  connect_serial_pins();
  reg(kUartBaud) = kBaud115200;
  reg(kUartEnable) = kEnabled;
  reg(kReceiveAddress) = address_of(&received);
  reg(kReceiveLength) = 1;
  reg(kReceiveEnded) = 0;
  reg(kUartInterruptSet) = kReceiveEndedInterrupt | kUartErrorInterrupt;
  reg(kUartStartReceive) = 1;
}

KILOTUNE_BUSY_CODE void on_uart() {
  if (reg(kReceiveEnded) != 0) {
    serial_ring.put(received);
    reg(kReceiveEnded) = 0;
    reg(kUartStartReceive) = 1;
  }
  count_serial_errors();
}

void write(const uint8_t* data, uint32_t n) {
  while (n > 0) {
    const uint32_t piece = n < sizeof to_send ? n : static_cast<uint32_t>(sizeof to_send);
    for (uint32_t i = 0; i < piece; ++i) to_send[i] = data[i];
    reg(kTransmitEnded) = 0;
    reg(kTransmitAddress) = address_of(to_send);
    reg(kTransmitLength) = piece;
    asm volatile("dsb" ::: "memory");
    reg(kUartStartTransmit) = 1;
    if (!line_takes([] { return reg(kTransmitEnded) != 0; }, piece)) return;
    data += piece;
    n -= piece;
  }
}

}  // namespace kilotune::board
