// A sensor on SPI0 of the RP2040: from the sensor GP16, chip select on GP17, clock GP18, to the
// sensor GP19, its INT1 on GP6.
//
// Registers: Raspberry Pi "RP2040 Datasheet", chapters SPI (Arm PL022), IO_BANK0, PADS_BANK0, SIO.
// Its queues hold a whole transfer. Every wait is bounded.
#include "boards/board.h"
#include "boards/common/sleep.h"
#include "sensor_pins.h"
#include "sensors/spi.h"

namespace kilotune::board {
namespace {

constexpr uint32_t kInPin = 16, kSelectPin = 17, kClockPin = 18, kOutPin = 19;
constexpr uint32_t kResetSpi0 = 1u << 16, kFunctionSpi = 1;
// Chip select is a plain pin: the block's own rises when its queue runs empty during a transfer.
constexpr uintptr_t kPinsSet = 0xD0000014, kPinsClear = 0xD0000018, kOutputsSet = 0xD0000024;

constexpr uintptr_t kSpi = 0x4003C000;
constexpr uintptr_t kControl0 = kSpi + 0x00, kControl1 = kSpi + 0x04, kData = kSpi + 0x08,
                    kState = kSpi + 0x0C, kPrescaler = kSpi + 0x10;
constexpr uint32_t kEightBits = 7u << 0, kMode3 = 3u << 6;
constexpr uint32_t kDivideBy50 = 49u << 8, kOn = 1u << 1;  // 125 MHz / 2 / 50: 1.25 MHz
constexpr uint32_t kReceived = 1u << 2;
constexpr uint32_t kTurns = 20000;  // several times a byte's 6.4 us

void select(void*, bool on) { reg(on ? kPinsClear : kPinsSet) = 1u << kSelectPin; }

// Starts the bus with empty queues.
bool start_bus() {
  if (!restart_block(kResetSpi0)) return false;
  reg(kPrescaler) = 2;
  reg(kControl0) = kEightBits | kMode3 | kDivideBy50;
  reg(kControl1) = kOn;
  return true;
}

bool exchange(void*, uint8_t* bytes, uint32_t n) {
  static_assert(kSpiLongest <= 8, "the queues' depth");
  for (uint32_t i = 0; i < n; ++i) reg(kData) = bytes[i];
  for (uint32_t i = 0; i < n; ++i) {
    if (!wait_until([] { return (reg(kState) & kReceived) != 0; }, kTurns)) {
      static_cast<void>(start_bus());  // late bytes must not be taken for the next transfer's
      return false;
    }
    bytes[i] = static_cast<uint8_t>(reg(kData));
  }
  return true;
}

constexpr SpiWire kWire = {nullptr, select, exchange};

void start_pins() {
  select(nullptr, false);
  reg(kOutputsSet) = 1u << kSelectPin;
  reg(pin_function(kSelectPin)) = kFunctionPlain;
  reg(pad(kInPin)) = kPadInput | kPadUp | kPadSchmitt;  // without a sensor, reads are 0xFF
  reg(pin_function(kInPin)) = kFunctionSpi;
  reg(pin_function(kClockPin)) = kFunctionSpi;
  reg(pin_function(kOutPin)) = kFunctionSpi;
}

}  // namespace

const SensorBus* sensor_bus() {
  if (!start_bus()) return nullptr;
  start_pins();
  start_interrupt_pin();
  static constexpr SensorBus kBus = spi_bus<kWire>(sleep_ms);
  return &kBus;
}

bool sensor_interrupt() { return interrupt_pin_is_high(); }

}  // namespace kilotune::board
