// What all Cortex-M boards share: the serial port's ring, sleep, and mapped flash. Each board
// provides the rest of the contract in board.h.
#ifndef KILOTUNE_BOARDS_COMMON_CORTEX_M_PORT_H_
#define KILOTUNE_BOARDS_COMMON_CORTEX_M_PORT_H_

#include <cstdint>

#include "board_layout.h"
#include "boards/common/cortex_m/core.h"
#include "boards/common/receive_ring.h"
#include "runtime/storage/flash.h"

namespace kilotune::board {

using SerialRing = ReceiveRing<KILOTUNE_RECEIVE_RING>;
extern SerialRing serial_ring;  // the board's receive interrupt fills it

// The board's: WFI, which a timer ends within kLongestSleepMs; called with interrupts masked. A
// tick is such a timer, a board without one takes sleep_without_tick (clocks.h).
void sleep();

// Waits until the line is `ready`: has taken `bytes`, or has room for them. False where it refuses
// for longer than `write` waits.
[[nodiscard]] bool line_takes(bool (*ready)(), uint32_t bytes);

// `write` of a serial port that takes a byte at a time, when it is `ready`.
inline void write_bytes(const uint8_t* data, uint32_t n, uintptr_t data_register, bool (*ready)()) {
  for (uint32_t i = 0; i < n && line_takes(ready, 1); ++i) reg(data_register) = data[i];
}

// A region of flash that is mapped where board.json says; `erase` and `program` get its start as
// their context. A template, so that it stays in flash itself. `kSizes`: of each sector, where they
// differ.
template <uint32_t kOffset, uint32_t kBytes, uint32_t kCount, auto erase, auto program,
          const uint32_t* kSizes = nullptr>
struct MappedRegion {
  static inline const Flash kFlash = {
      reinterpret_cast<const uint8_t*>(kFlashBase + kOffset), kBytes, kCount,  kWordBytes,
      reinterpret_cast<void*>(kFlashBase + kOffset),          erase,  program, kSizes};
};

// What a 32-bit flash controller is given for 4 bytes; usable in RAM code.
[[gnu::always_inline]] inline uint32_t word_at(const uint8_t* p) {
  return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
}

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_COMMON_CORTEX_M_PORT_H_
