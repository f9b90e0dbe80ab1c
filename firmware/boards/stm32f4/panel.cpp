// Light and button of an STM32F4 board, on the pins that its chip.h names (ST RM0090, RM0390,
// chapter GPIO).
#include "boards/board.h"
#include "chip.h"
#include "rcc.h"

namespace kilotune::board {
namespace {

constexpr uintptr_t port(uint32_t letter) { return 0x40020000 + 0x400 * letter; }  // 0: A
constexpr uintptr_t kMode = 0x00, kIn = 0x10, kSetAndClear = 0x18;

}  // namespace

void show(Light light, bool lit) {
  reg(kRccAhb1Enable) |= 1u << kLightPort;
  uint32_t all = 0;
  for (const uint8_t pin : kLightPins) {
    all |= 1u << pin;
    reg(port(kLightPort) + kMode) =
        (reg(port(kLightPort) + kMode) & ~(3u << 2 * pin)) | 1u << 2 * pin;
  }
  uint32_t on = 0;
  if (lit && light != Light::off)
    on = light == Light::trouble ? all : 1u << kLightPins[static_cast<uint32_t>(light) - 1];
  reg(port(kLightPort) + kSetAndClear) = all << 16 | on;  // setting a pin wins
}

bool button() {
  reg(kRccAhb1Enable) |= 1u << kButtonPort;
  const bool high = (reg(port(kButtonPort) + kIn) >> kButtonPin & 1) != 0;
  return high == kButtonIsHigh;
}

}  // namespace kilotune::board
