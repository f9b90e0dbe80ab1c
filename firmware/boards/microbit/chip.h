// What is specific to the micro:bit and its nRF51822.
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
// The light in row 1, column 1; button A. The sensor is on the bus of the edge connector, its INT1
// on pin 0 there.
constexpr uint8_t kLightPins[] = {13, 13, 13, 13};
constexpr bool kLightIsHigh = true;
constexpr int32_t kLightSinkPin = 4;
constexpr uint32_t kButtonPin = 17;
constexpr uint32_t kClockPin = 0, kDataPin = 30, kSensorInterruptPin = 3;
constexpr bool kDebugPortCloses = false;
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_MICROBIT_CHIP_H_
