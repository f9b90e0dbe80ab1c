// A sensor on SPI2 of an STM32F4: chip select on PB12, clock PB13, from the sensor PB14, to it
// PB15, its INT1 on PB5. These boards use SPI1's pins for a light, a sensor of their own, or the
// debugger.
//
// Registers: ST RM0090, RM0390, chapter "Serial peripheral interface"; by polling, a byte takes 6
// us.
#include "boards/board.h"
#include "boards/common/sleep.h"
#include "sensor_pins.h"
#include "sensors/spi.h"

namespace kilotune::board {
namespace {

constexpr uint32_t kSpi2 = 1u << 14;  // of RCC's APB1

constexpr uint32_t kSelectPin = 12;
constexpr uint32_t kPins12To15 = 0xFFu << 24, kOutputAndAlternate = 0xA9u << 24;
constexpr uint32_t kInPulledUp = 1u << 28, kInPullMask = 3u << 28;  // of PB14
constexpr uint32_t kFunctions13To15 = 0xFFFu << 20, kFunctionSpi = 0x555u << 20;

constexpr uintptr_t kSpi = 0x40003800;
constexpr uintptr_t kControl1 = kSpi + 0x00, kControl2 = kSpi + 0x04, kState = kSpi + 0x08,
                    kData = kSpi + 0x0C;
constexpr uint32_t kMode3 = 3u << 0, kMaster = 1u << 2, kOn = 1u << 6;
constexpr uint32_t kSelectedByPin = 3u << 8;          // this is the only master: SSM, SSI
constexpr uint32_t kBy32 = 4u << 3, kBy16 = 3u << 3;  // 42 MHz: 1.3 MHz; 16 MHz: 1 MHz
constexpr uint32_t kReceived = 1u << 0, kEmpty = 1u << 1;
constexpr uint32_t kTurns = 20000;  // several times a byte's 8 us at 168 MHz

void select(void*, bool on) { reg(kGpioBSet) = 1u << (on ? kSelectPin + 16 : kSelectPin); }

void start_bus() {
  const bool fast = runs_from_pll();
  reg(kControl1) = 0;
  reg(kControl2) = 0;
  reg(kControl1) = kMode3 | kMaster | kSelectedByPin | (fast ? kBy32 : kBy16);
  reg(kControl1) = kMode3 | kMaster | kSelectedByPin | (fast ? kBy32 : kBy16) | kOn;
}

// The received byte is there after the last edge of the clock.
bool exchange_byte(uint8_t& byte) {
  if (!wait_until([] { return (reg(kState) & kEmpty) != 0; }, kTurns)) return false;
  reg(kData) = byte;
  if (!wait_until([] { return (reg(kState) & kReceived) != 0; }, kTurns)) return false;
  byte = static_cast<uint8_t>(reg(kData));
  return true;
}

bool exchange(void*, uint8_t* bytes, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) {
    if (exchange_byte(bytes[i])) continue;
    start_bus();
    [[maybe_unused]] const uint32_t late = reg(kData);  // it must not be taken for the next byte
    return false;
  }
  return true;
}

constexpr SpiWire kWire = {nullptr, select, exchange};

}  // namespace

const SensorBus* sensor_bus() {
  start_port_b();
  start_apb1(kSpi2);
  select(nullptr, false);
  set_pins(kGpioBPull, kInPullMask, kInPulledUp);  // without a sensor, reads are 0xFF
  set_pins(kGpioBFunction, kFunctions13To15, kFunctionSpi);
  set_pins(kGpioBMode, kPins12To15, kOutputAndAlternate);
  start_bus();
  static constexpr SensorBus kBus = spi_bus<kWire>(sleep_ms);
  return &kBus;
}

bool sensor_interrupt() { return interrupt_pin_is_high(); }

}  // namespace kilotune::board
