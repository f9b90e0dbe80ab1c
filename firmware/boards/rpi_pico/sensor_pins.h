// Pins and blocks of the RP2040 that a sensor needs; its INT1 is on GP6 (Raspberry Pi "RP2040
// Datasheet", chapters IO_BANK0, PADS_BANK0, SIO, Resets).
#ifndef KILOTUNE_BOARDS_RPI_PICO_SENSOR_PINS_H_
#define KILOTUNE_BOARDS_RPI_PICO_SENSOR_PINS_H_

#include "boards/common/cortex_m/core.h"

namespace kilotune::board {

constexpr uint32_t kInterruptPin = 6;
constexpr uintptr_t kClearAlias = 0x3000, kSetAlias = 0x2000;
constexpr uintptr_t kResets = 0x4000C000, kResetsDone = 0x4000C008;
constexpr uintptr_t pin_function(uint32_t pin) { return 0x40014004 + 8 * pin; }
constexpr uintptr_t pad(uint32_t pin) { return 0x4001C004 + 4 * pin; }
constexpr uint32_t kFunctionPlain = 5;
constexpr uint32_t kPadSchmitt = 1u << 1, kPadDown = 1u << 2, kPadUp = 1u << 3, kPadInput = 1u << 6;
constexpr uintptr_t kPinsIn = 0xD0000004;

[[nodiscard]] inline bool restart_block(uint32_t block) {
  reg(kResets + kSetAlias) = block;
  reg(kResets + kClearAlias) = block;
  return wait_until([block] { return (reg(kResetsDone) & block) != 0; });
}

inline void start_interrupt_pin() {
  reg(pad(kInterruptPin)) = kPadInput | kPadDown | kPadSchmitt;
  reg(pin_function(kInterruptPin)) = kFunctionPlain;
}

inline bool interrupt_pin_is_high() { return (reg(kPinsIn) >> kInterruptPin & 1) != 0; }

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_RPI_PICO_SENSOR_PINS_H_
