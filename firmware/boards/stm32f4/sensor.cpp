// A sensor on I2C1 of an STM32F4, 400 kHz: SCL on PB8, SDA on PB9, the sensor's INT1 on PB5.
//
// Registers: ST RM0090, RM0390, chapter "Inter-integrated circuit interface"; reception of one
// byte, and of three or more, as described there, which keeps its order even if an interrupt comes
// in between. Every wait is bounded.
#include "boards/board.h"
#include "boards/common/sleep.h"
#include "sensor_pins.h"

namespace kilotune::board {
namespace {

constexpr uint32_t kI2c1 = 1u << 21;  // of RCC's APB1

constexpr uint32_t kPins8And9 = 0xFu << 16, kAlternate = 0xAu << 16, kPulledUp = 5u << 16;
constexpr uint32_t kOpenDrain = 3u << 8, kFunctions8And9 = 0xFFu, kFunctionI2c = 0x44u;

constexpr uintptr_t kI2c = 0x40005400;
constexpr uintptr_t kControl1 = kI2c + 0x00, kControl2 = kI2c + 0x04, kData = kI2c + 0x10;
constexpr uintptr_t kState1 = kI2c + 0x14, kState2 = kI2c + 0x18, kClock = kI2c + 0x1C,
                    kRise = kI2c + 0x20;
constexpr uint32_t kOn = 1u << 0, kStart = 1u << 8, kStop = 1u << 9, kAcknowledge = 1u << 10,
                   kReset = 1u << 15;
constexpr uint32_t kStarted = 1u << 0, kAddressed = 1u << 1, kFinished = 1u << 2,
                   kReceived = 1u << 6;
constexpr uint32_t kErrors = 7u << 8;  // bus, arbitration, no acknowledge
constexpr uint32_t kFast = 1u << 15;
constexpr uint32_t kPllMhz = 42, kInternalMhz = 16;  // of APB1, as board.cpp sets it
constexpr uint32_t kTurns = 20000;                   // several times a byte's 23 us at 168 MHz

void start_bus() {
  const bool fast = runs_from_pll();
  const uint32_t mhz = fast ? kPllMhz : kInternalMhz;
  reg(kControl1) = kReset;
  reg(kControl1) = 0;
  reg(kControl2) = mhz;
  reg(kClock) = kFast | (mhz * 1000 + 1199) / 1200;  // a third of the period high: 3 * 400 kHz
  reg(kRise) = mhz * 3 / 10 + 1;                     // 300 ns
  reg(kControl1) = kOn;
}

bool wait_for(uint32_t flag) {
  const bool there = wait_until([flag] { return (reg(kState1) & (flag | kErrors)) != 0; }, kTurns);
  return there && (reg(kState1) & kErrors) == 0;
}

bool address(uint8_t byte) {
  reg(kControl1) = kOn | kStart | kAcknowledge;
  if (!wait_for(kStarted)) return false;
  reg(kData) = byte;
  return wait_for(kAddressed);
}

// The chip, and the register that is meant; the bus is held.
bool select(uint8_t chip, uint8_t number) {
  if (!address(static_cast<uint8_t>(chip << 1))) return false;
  read_for_effect(kState2);  // lets the bus go on
  reg(kData) = number;
  return wait_for(kFinished);
}

bool receive(uint8_t chip, uint8_t* out, uint32_t n) {
  if (!address(static_cast<uint8_t>(chip << 1 | 1))) return false;
  if (n == 1) {
    reg(kControl1) = kOn;  // the only byte is not acknowledged
    read_for_effect(kState2);
    reg(kControl1) = kOn | kStop;
    if (!wait_for(kReceived)) return false;
    out[0] = static_cast<uint8_t>(reg(kData));
    return true;
  }
  read_for_effect(kState2);
  for (uint32_t i = 0; i < n; ++i) {
    // The last three wait in the data and shift registers until the code says what follows them.
    if (!wait_for(i + 3 == n || i + 2 == n ? kFinished : kReceived)) return false;
    if (i + 3 == n) reg(kControl1) = kOn;
    if (i + 2 == n) reg(kControl1) = kOn | kStop;
    out[i] = static_cast<uint8_t>(reg(kData));
  }
  return true;
}

// After an error the bus starts from scratch.
bool done(bool worked) {
  if (!worked) start_bus();
  return worked && wait_until([] { return (reg(kControl1) & kStop) == 0; }, kTurns);
}

bool read_registers(void*, uint8_t chip, uint8_t number, uint8_t* out, uint32_t n) {
  return n != 2 && done(select(chip, number) && receive(chip, out, n));
}

bool write_register(void*, uint8_t chip, uint8_t number, uint8_t value) {
  bool worked = select(chip, number);
  if (worked) {
    reg(kData) = value;
    worked = wait_for(kFinished);
    reg(kControl1) = kOn | kStop;
  }
  return done(worked);
}

}  // namespace

const SensorBus* sensor_bus() {
  start_port_b();
  start_apb1(kI2c1);
  reg(kGpioBType) |= kOpenDrain;
  set_pins(kGpioBPull, kPins8And9, kPulledUp);
  set_pins(kGpioBFunction, kFunctions8And9, kFunctionI2c);
  set_pins(kGpioBMode, kPins8And9, kAlternate);
  start_bus();
  static constexpr SensorBus kBus = {nullptr, false, read_registers, write_register, sleep_ms};
  return &kBus;
}

bool sensor_interrupt() { return interrupt_pin_is_high(); }

}  // namespace kilotune::board
