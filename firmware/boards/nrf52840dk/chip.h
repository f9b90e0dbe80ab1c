// What is specific to the nRF52840 DK and its chip.
#ifndef KILOTUNE_BOARDS_NRF52840DK_CHIP_H_
#define KILOTUNE_BOARDS_NRF52840DK_CHIP_H_

#include <cstdint>

#include "boards/common/cortex_m/core.h"

#define KILOTUNE_HAS_CYCLE_COUNTER 1
#define KILOTUNE_BUSY_CODE KILOTUNE_RAM_CODE

namespace kilotune::board {
constexpr uint32_t kTransmitPin = 6, kReceivePin = 8;  // to the interface chip, and so to USB
constexpr uint32_t kFlashTurns = 4000000;              // several times 85 ms at 64 MHz
// LED 1: learn, 2: detect, 3: anomaly; button 1. The sensor's pins are those of an Arduino header.
constexpr uint8_t kLightPins[] = {13, 14, 15, 14};
constexpr bool kLightIsHigh = false;
constexpr int32_t kLightSinkPin = -1;
constexpr uint32_t kButtonPin = 11;
constexpr uint32_t kClockPin = 27, kDataPin = 26, kSensorInterruptPin = 28;
// Revision 3 (build code F and later) closes its debug port at every reset, unless firmware opens
// it.
constexpr bool kDebugPortCloses = true;
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_NRF52840DK_CHIP_H_
