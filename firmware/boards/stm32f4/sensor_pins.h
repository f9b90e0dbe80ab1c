// Port B, which has the pins of a sensor on either bus; its INT1 is on PB5 (ST RM0090, RM0390,
// GPIO).
#ifndef KILOTUNE_BOARDS_STM32F4_SENSOR_PINS_H_
#define KILOTUNE_BOARDS_STM32F4_SENSOR_PINS_H_

#include "rcc.h"

namespace kilotune::board {

constexpr uintptr_t kGpioB = 0x40020400;
constexpr uintptr_t kGpioBMode = kGpioB + 0x00, kGpioBType = kGpioB + 0x04;
constexpr uintptr_t kGpioBPull = kGpioB + 0x0C, kGpioBIn = kGpioB + 0x10;
constexpr uintptr_t kGpioBSet = kGpioB + 0x18;       // the upper half clears
constexpr uintptr_t kGpioBFunction = kGpioB + 0x24;  // pins 8 to 15
constexpr uint32_t kInterruptPin = 5;

// Changes only the bits in `mask`.
inline void set_pins(uintptr_t address, uint32_t mask, uint32_t value) {
  reg(address) = (reg(address) & ~mask) | value;
}

inline void start_port_b() {
  reg(kRccAhb1Enable) |= 1u << 1;
  set_pins(kGpioBPull, 3u << 2 * kInterruptPin, 2u << 2 * kInterruptPin);  // down
}

inline bool interrupt_pin_is_high() { return (reg(kGpioBIn) >> kInterruptPin & 1) != 0; }

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_STM32F4_SENSOR_PINS_H_
