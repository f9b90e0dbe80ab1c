// A sensor on I2C0 of the RP2040, 400 kHz: SDA on GP4, SCL on GP5, the sensor's INT1 on GP6.
//
// Registers: Raspberry Pi "RP2040 Datasheet", chapters I2C, IO_BANK0, PADS_BANK0. Every wait is
// bounded.
#include "boards/board.h"
#include "boards/common/sleep.h"
#include "sensor_pins.h"

namespace kilotune::board {
namespace {

constexpr uint32_t kDataPin = 4, kClockPin = 5;
constexpr uint32_t kResetI2c0 = 1u << 3, kFunctionI2c = 3;

constexpr uintptr_t kI2c = 0x40044000;
constexpr uintptr_t kControl = kI2c + 0x00, kTarget = kI2c + 0x04, kDataCommand = kI2c + 0x10;
constexpr uintptr_t kHigh = kI2c + 0x1C, kLow = kI2c + 0x20, kRawState = kI2c + 0x34;
constexpr uintptr_t kClearAll = kI2c + 0x40, kEnable = kI2c + 0x6C, kReceivedCount = kI2c + 0x78;
constexpr uintptr_t kDataHold = kI2c + 0x7C, kSpikes = kI2c + 0xA0;
// Master, fast, repeated starts, no slave, "empty" when the last byte has left.
constexpr uint32_t kSettings = 1u << 0 | 2u << 1 | 1u << 5 | 1u << 6 | 1u << 8;
constexpr uint32_t kRead = 1u << 8, kStop = 1u << 9,
                   kRestart = 1u << 10;  // beside a byte in DATA_CMD
constexpr uint32_t kAborted = 1u << 6, kStopped = 1u << 9;
constexpr uint32_t kPeriod = 125000000 / 400000, kLowPart = kPeriod * 3 / 5;  // in cycles
constexpr uint32_t kTurns = 20000;  // several times a transfer's 0.3 ms

// `n` commands fit the queue of 16. Nothing is left in progress afterwards.
bool transfer(uint8_t chip, const uint16_t* commands, uint32_t n) {
  reg(kEnable) = 0;
  reg(kTarget) = chip;
  reg(kEnable) = 1;
  read_for_effect(kClearAll);
  for (uint32_t i = 0; i < n; ++i) reg(kDataCommand) = commands[i];
  const bool ended = wait_until([] { return (reg(kRawState) & kStopped) != 0; }, kTurns);
  return ended && (reg(kRawState) & kAborted) == 0;
}

bool read_registers(void*, uint8_t chip, uint8_t number, uint8_t* out, uint32_t n) {
  uint16_t commands[8] = {number};
  for (uint32_t i = 1; i <= n; ++i) commands[i] = kRead;
  commands[1] |= kRestart;
  commands[n] |= kStop;
  if (!transfer(chip, commands, n + 1) || reg(kReceivedCount) != n) return false;
  for (uint32_t i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(reg(kDataCommand));
  return true;
}

bool write_register(void*, uint8_t chip, uint8_t number, uint8_t value) {
  const uint16_t commands[] = {number, static_cast<uint16_t>(value | kStop)};
  return transfer(chip, commands, 2);
}

}  // namespace

const SensorBus* sensor_bus() {
  if (!restart_block(kResetI2c0)) return nullptr;
  reg(kEnable) = 0;
  reg(kControl) = kSettings;
  reg(kLow) = kLowPart;
  reg(kHigh) = kPeriod - kLowPart;
  reg(kSpikes) = kLowPart / 16;
  reg(kDataHold) = 38;  // 300 ns
  for (uint32_t pin = kDataPin; pin <= kClockPin; ++pin) {
    reg(pad(pin)) = kPadInput | kPadUp | kPadSchmitt;
    reg(pin_function(pin)) = kFunctionI2c;
  }
  start_interrupt_pin();
  static constexpr SensorBus kBus = {nullptr, false, read_registers, write_register, sleep_ms};
  return &kBus;
}

bool sensor_interrupt() { return interrupt_pin_is_high(); }

}  // namespace kilotune::board
