// The serial port's ring and sleep, which all Cortex-M boards share.
#include "boards/common/cortex_m/port.h"

#include "boards/board.h"
#include "boards/common/patience.h"

namespace kilotune::board {

SerialRing serial_ring;

uint32_t read(uint8_t* out, uint32_t max) { return serial_ring.take(out, max); }
uint32_t receive_capacity() { return SerialRing::kCapacity; }
uint32_t receive_dropped() { return serial_ring.dropped(); }

// An interrupt that is pending ends WFI even while masked, so none is missed in between. Bytes of a
// frame that has not ended are slept through, as a turn of the main loop costs more than a byte.
void wait() {
  constexpr uint32_t kLongestBatchMs = 10;  // of a long frame; buttons and lights can wait for it
  const uint32_t began = millis();
  do {
    disable_interrupts();
    if (!serial_ring.due()) sleep();
    enable_interrupts();
  } while (!serial_ring.empty() && !serial_ring.due() && !sensor_interrupt() &&
           millis() - began < kLongestBatchMs);
}

bool line_takes(bool (*ready)(), uint32_t bytes) {
  static Patience patience;
  const uint32_t began = millis();
  uint32_t waited = 0;
  while (!ready()) {
    waited = millis() - began;
    if (patience.lasts(waited)) continue;
    patience.refused();
    return false;
  }
  patience.taken(waited, bytes);
  return true;
}

}  // namespace kilotune::board
