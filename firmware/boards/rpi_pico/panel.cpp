// The Pico's light on GP25, and a button that you add between GP15 and ground: BOOTSEL is a line of
// the flash.
//
// Registers: Raspberry Pi "RP2040 Datasheet", chapters SIO, IO_BANK0, PADS_BANK0.
#include "boards/board.h"
#include "boards/common/cortex_m/core.h"

namespace kilotune::board {
namespace {

constexpr uint32_t kLightPin = 25, kButtonPin = 15;
constexpr uintptr_t kPinsIn = 0xD0000004, kPinsSet = 0xD0000014, kPinsClear = 0xD0000018;
constexpr uintptr_t kOutputsSet = 0xD0000024;
constexpr uintptr_t pin_function(uint32_t pin) { return 0x40014004 + 8 * pin; }
constexpr uintptr_t pad(uint32_t pin) { return 0x4001C004 + 4 * pin; }
constexpr uint32_t kFunctionPlain = 5, kPadUp = 1u << 3, kPadInput = 1u << 6, kPadSchmitt = 1u << 1;

}  // namespace

void show(Light light, bool lit) {
  reg(pin_function(kLightPin)) = kFunctionPlain;
  reg(kOutputsSet) = 1u << kLightPin;
  reg(lit && light != Light::off ? kPinsSet : kPinsClear) = 1u << kLightPin;
}

bool button() {
  reg(pad(kButtonPin)) = kPadInput | kPadUp | kPadSchmitt;
  reg(pin_function(kButtonPin)) = kFunctionPlain;
  return (reg(kPinsIn) >> kButtonPin & 1) == 0;
}

}  // namespace kilotune::board
