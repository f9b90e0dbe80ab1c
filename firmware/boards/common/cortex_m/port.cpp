// The serial port's ring and sleep, which all Cortex-M boards share.
#include "boards/common/cortex_m/port.h"

#include "boards/board.h"

namespace kilotune::board {

SerialRing serial_ring;

uint32_t read(uint8_t* out, uint32_t max) {
  feed_watchdog();  // the main loop comes by here
  return serial_ring.take(out, max);
}
uint32_t receive_capacity() { return SerialRing::kCapacity; }
uint32_t receive_dropped() { return serial_ring.dropped(); }

// An interrupt that is pending ends WFI even while masked, so none is missed in between.
void wait() {
  disable_interrupts();
  if (serial_ring.empty()) wait_for_interrupt();
  enable_interrupts();
}

}  // namespace kilotune::board
