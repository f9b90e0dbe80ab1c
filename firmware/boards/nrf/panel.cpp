// Light and button of a Nordic board, on the pins of port 0 that its chip.h names.
#include "boards/board.h"
#include "pins.h"

namespace kilotune::board {
namespace {

constexpr uintptr_t kPinSet = 0x50000508, kPinClear = 0x5000050C;

}  // namespace

void show(Light light, bool lit) {
  uint32_t all = 0;
  for (const uint8_t pin : kLightPins) all |= 1u << pin;
  reg(kLightIsHigh ? kPinClear : kPinSet) = all;
  for (const uint8_t pin : kLightPins) reg(pin_config(pin)) = kOutput;
  if (kLightSinkPin >= 0) {  // the other side of a matrix
    reg(kPinClear) = 1u << (kLightSinkPin & 31);
    reg(pin_config(kLightSinkPin & 31)) = kOutput;
  }
  if (!lit || light == Light::off) return;
  const uint32_t on =
      light == Light::trouble ? all : 1u << kLightPins[static_cast<uint32_t>(light) - 1];
  reg(kLightIsHigh ? kPinSet : kPinClear) = on;
}

bool button() {
  reg(pin_config(kButtonPin)) = kPulledUp;
  return (reg(kPinsIn) >> kButtonPin & 1) == 0;
}

}  // namespace kilotune::board
