// What the micro:bit and its nRF51822 have of their own.
#ifndef KILOTUNE_BOARDS_MICROBIT_CHIP_H_
#define KILOTUNE_BOARDS_MICROBIT_CHIP_H_

#include <cstdint>

// The core has neither DWT nor VTOR: its vectors are in flash, so no interrupt is taken while flash
// is busy (22 ms for a page), and code in RAM would gain nothing.
#define KILOTUNE_HAS_CYCLE_COUNTER 0
#define KILOTUNE_BUSY_CODE

namespace kilotune::board {
constexpr uint32_t kTransmitPin = 24, kReceivePin = 25;  // to the interface chip, and so to USB
constexpr uint32_t kFlashTurns = 1000000;                // several times 22 ms at 16 MHz
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_MICROBIT_CHIP_H_
