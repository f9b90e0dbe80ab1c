// Pins of an nRF51 or nRF52, on port 0 (Nordic "nRF51 Series Reference Manual", "nRF52840 Product
// Specification", GPIO); which ones a board uses is in its chip.h.
#ifndef KILOTUNE_BOARDS_NRF_PINS_H_
#define KILOTUNE_BOARDS_NRF_PINS_H_

#include "boards/common/cortex_m/core.h"
#include "chip.h"

namespace kilotune::board {

constexpr uintptr_t kPinsIn = 0x50000510;
constexpr uintptr_t pin_config(uint32_t pin) { return 0x50000700 + 4 * pin; }
constexpr uint32_t kOutput = 3;       // with the input buffer off
constexpr uint32_t kOutputHeard = 1;  // with it on: a SPIM reads its clock back from the pin (nrfx)
constexpr uint32_t kPulledDown = 1u << 2, kPulledUp = 3u << 2;

inline void start_interrupt_pin() { reg(pin_config(kSensorInterruptPin)) = kPulledDown; }
inline bool interrupt_pin_is_high() { return (reg(kPinsIn) >> kSensorInterruptPin & 1) != 0; }

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_NRF_PINS_H_
