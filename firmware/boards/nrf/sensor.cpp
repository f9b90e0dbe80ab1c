// A sensor on TWI0 of an nRF51 or nRF52, 400 kHz, on the pins that chip.h names.
//
// Registers: Nordic "nRF51 Series Reference Manual", chapter TWI; the nRF52840 has the same
// interface beside its TWIM. The bus waits after each received byte (shortcut BB_SUSPEND) until the
// software resumes it; on the first silicon of the nRF51 shortcuts of the TWI do not work (product
// anomaly 36). Every wait is bounded.
#include "boards/board.h"
#include "boards/common/sleep.h"
#include "pins.h"

namespace kilotune::board {
namespace {

constexpr uintptr_t kTwi = 0x40003000;
constexpr uintptr_t kStartReceive = kTwi + 0x000, kStartTransmit = kTwi + 0x008,
                    kStop = kTwi + 0x014;
constexpr uintptr_t kResume = kTwi + 0x020, kStopped = kTwi + 0x104, kReceived = kTwi + 0x108;
constexpr uintptr_t kSent = kTwi + 0x11C, kError = kTwi + 0x124, kShortcuts = kTwi + 0x200;
constexpr uintptr_t kErrorSource = kTwi + 0x4C4, kEnable = kTwi + 0x500, kPinClock = kTwi + 0x508;
constexpr uintptr_t kPinData = kTwi + 0x50C, kReceive = kTwi + 0x518, kTransmit = kTwi + 0x51C;
constexpr uintptr_t kFrequency = kTwi + 0x524, kAddress = kTwi + 0x588;
constexpr uint32_t kSuspendAfterByte = 1, kStopAfterByte = 2, kEnabled = 5, k400kHz = 0x06680000;

constexpr uint32_t kOpenDrain = 6u << 8;
constexpr uint32_t kTurns = 20000;  // several times a byte's 23 us at 64 MHz

void start_bus() {
  reg(kEnable) = 0;
  reg(kShortcuts) = 0;
  reg(pin_config(kClockPin)) = kPulledUp | kOpenDrain;
  reg(pin_config(kDataPin)) = kPulledUp | kOpenDrain;
  reg(kPinClock) = kClockPin;
  reg(kPinData) = kDataPin;
  reg(kFrequency) = k400kHz;
  reg(kEnable) = kEnabled;
}

bool wait_for(uintptr_t event) {
  const bool there = wait_until([event] { return reg(event) != 0 || reg(kError) != 0; }, kTurns);
  if (!there || reg(kError) != 0) return false;
  reg(event) = 0;
  return true;
}

bool send(uint8_t byte) {
  reg(kTransmit) = byte;
  return wait_for(kSent);
}

bool select(uint8_t chip, uint8_t number) {
  reg(kStopped) = reg(kReceived) = reg(kSent) = reg(kError) = 0;
  reg(kAddress) = chip;
  reg(kStartTransmit) = 1;
  return send(number);
}

bool receive(uint8_t* out, uint32_t n) {
  reg(kShortcuts) = n == 1 ? kStopAfterByte : kSuspendAfterByte;
  reg(kStartReceive) = 1;
  for (uint32_t i = 0; i < n; ++i) {
    if (!wait_for(kReceived)) return false;
    out[i] = static_cast<uint8_t>(reg(kReceive));
    if (i + 2 == n) reg(kShortcuts) = kStopAfterByte;  // after the next byte, the last
    if (i + 1 < n) reg(kResume) = 1;
  }
  return wait_for(kStopped);
}

bool done(bool worked) {
  reg(kShortcuts) = 0;
  if (worked) return true;
  reg(kErrorSource) = reg(kErrorSource);  // write 1 to clear
  reg(kStop) = 1;
  static_cast<void>(wait_until([] { return reg(kStopped) != 0; }, kTurns));
  start_bus();
  return false;
}

bool read_registers(void*, uint8_t chip, uint8_t number, uint8_t* out, uint32_t n) {
  return done(select(chip, number) && receive(out, n));
}

bool write_register(void*, uint8_t chip, uint8_t number, uint8_t value) {
  const bool sent = select(chip, number) && send(value);
  if (sent) reg(kStop) = 1;
  return done(sent && wait_for(kStopped));
}

}  // namespace

const SensorBus* sensor_bus() {
  start_interrupt_pin();
  start_bus();
  static constexpr SensorBus kBus = {nullptr, false, read_registers, write_register, sleep_ms};
  return &kBus;
}

bool sensor_interrupt() { return interrupt_pin_is_high(); }

}  // namespace kilotune::board
