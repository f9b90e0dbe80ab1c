// Boards with an STM32F4: clock tree, USART2, SysTick, independent watchdog, identity.
//
// Registers: ST RM0090 (STM32F407) and RM0390 (STM32F446), which have these peripherals at the same
// addresses. All waits for a clock are bounded: without the crystal the chip runs at 16 MHz.
#include "boards/board.h"

#include "board_layout.h"
#include "boards/common/cortex_m/clocks.h"
#include "boards/common/cortex_m/port.h"
#include "boards/common/cortex_m/startup.h"
#include "chip.h"
#include "flash.h"
#include "rcc.h"

namespace kilotune::board {
namespace {

constexpr uintptr_t kRccControl = kRcc + 0x00;
constexpr uintptr_t kRccPll = kRcc + 0x04;
constexpr uintptr_t kRccResets = kRcc + 0x74;
constexpr uint32_t kByWatchdog = 1u << 29, kForgetResets = 1u << 24;
constexpr uint32_t kCrystalOn = 1u << 16, kCrystalReady = 1u << 17, kCrystalBypass = 1u << 18;
constexpr uint32_t kPllOn = 1u << 24, kPllReady = 1u << 25;
// 8 MHz / 8 * 336 / 2 = 168 MHz, from the crystal; 48 MHz for USB. Bits 28 and up: an unused output
// of the STM32F446, and the STM32F407's reserved value.
constexpr uint32_t kPll = 8u | 336u << 6 | 0u << 16 | 1u << 22 | 7u << 24 | 2u << 28;
constexpr uint32_t kApb1By4 = 5u << 10, kApb2By2 = 4u << 13;
constexpr uint32_t kFromPll = 2;
constexpr uint32_t kInternalHz = 16000000, kPllHz = 168000000;
constexpr uint32_t kGpioA = 1u << 0, kUsart2 = 1u << 17;

constexpr uintptr_t kGpioAMode = 0x40020000;
constexpr uintptr_t kGpioAPull = 0x4002000C;
constexpr uintptr_t kGpioAFunction = 0x40020020;  // pins 0 to 7
constexpr uint32_t kPins2And3 = 0xFu << 4, kAlternate = 0xAu << 4, kReceivePulledUp = 1u << 6;
constexpr uint32_t kFunctions2And3 = 0xFFu << 8, kFunctionUsart2 = 0x77u << 8;

constexpr uintptr_t kUsart = 0x40004400;
constexpr uintptr_t kUsartState = kUsart + 0x00;
constexpr uintptr_t kUsartData = kUsart + 0x04;
constexpr uintptr_t kUsartDivider = kUsart + 0x08;
constexpr uintptr_t kUsartControl = kUsart + 0x0C;
constexpr uint32_t kOverrun = 1u << 3, kReceived = 1u << 5, kSent = 1u << 6,
                   kTransmitEmpty = 1u << 7;
constexpr uint32_t kUsartOn = 1u << 13, kReceivedInterrupt = 1u << 5, kTransmitter = 1u << 3,
                   kReceiver = 1u << 2;
constexpr uint32_t kBaud = 115200;

constexpr uintptr_t kWatchdogKey = 0x40003000;
constexpr uintptr_t kWatchdogPrescaler = 0x40003004;
constexpr uintptr_t kWatchdogReload = 0x40003008;
constexpr uint32_t kUnlock = 0x5555, kFeed = 0xAAAA, kStart = 0xCCCC;
constexpr uint32_t kBy64 = 4;         // of about 32 kHz, 47 kHz at most
constexpr uint32_t kLongest = 0xFFF;  // so 8 s, or 5.6 s
static_assert((kLongest + 1) * 64 / 47 >= kShortestWatchdogMs);

constexpr uintptr_t kChip = 0xE0042000;  // DBGMCU: which chip this is
constexpr uintptr_t kUniqueId = 0x1FFF7A10;
constexpr uint32_t kUniqueIdBytes = 12;

CycleCounter cycles;
volatile uint32_t tick_count = 0;

void start_watchdog() {
  reg(kWatchdogKey) = kStart;
  reg(kWatchdogKey) = kUnlock;
  reg(kWatchdogPrescaler) = kBy64;
  reg(kWatchdogReload) = kLongest;
  feed_watchdog();
}

void read_resets() {
  if ((reg(kRccResets) & kByWatchdog) != 0) note_watchdog_reset();
  reg(kRccResets) |= kForgetResets;
}

// Returns the core's clock.
uint32_t start_clock() {
  const auto set = [](uint32_t bit) {
    return wait_until([bit] { return (reg(kRccControl) & bit) != 0; }, 100000);
  };
  reg(kRccControl) |= kCrystalOn | (kCrystalIsFed ? kCrystalBypass : 0);
  if (!set(kCrystalReady)) return kInternalHz;
  reg(kRccPll) = kPll;
  reg(kRccControl) |= kPllOn;
  if (!set(kPllReady)) return kInternalHz;
  prepare_flash();
  reg(kRccConfig) = kApb1By4 | kApb2By2;
  reg(kRccConfig) |= kFromPll;
  const bool fast = wait_until(runs_from_pll, 100000);
  return fast ? kPllHz : kInternalHz;
}

void start_serial(uint32_t core_hz) {
  const uint32_t peripheral_hz = core_hz == kPllHz ? core_hz / 4 : core_hz;
  reg(kRccAhb1Enable) |= kGpioA;
  start_apb1(kUsart2);
  reg(kGpioAFunction) = (reg(kGpioAFunction) & ~kFunctions2And3) | kFunctionUsart2;
  reg(kGpioAPull) |= kReceivePulledUp;
  reg(kGpioAMode) = (reg(kGpioAMode) & ~kPins2And3) | kAlternate;
  reg(kUsartDivider) = (peripheral_hz + kBaud / 2) / kBaud;
  reg(kUsartControl) = kUsartOn | kReceivedInterrupt | kTransmitter | kReceiver;
  enable_interrupt(kUsart2Interrupt);
}

}  // namespace

void feed_watchdog() { reg(kWatchdogKey) = kFeed; }
void sleep() { wait_for_interrupt(); }  // until the next tick

KILOTUNE_RAM_CODE void on_tick() {
  tick_count = tick_count + 1;
  cycles.tick();
}

KILOTUNE_RAM_CODE void on_usart2() {
  const uint32_t state = reg(kUsartState);
  if ((state & (kReceived | kOverrun)) == 0) return;
  const auto byte = static_cast<uint8_t>(reg(kUsartData));  // clears both
  if ((state & kReceived) != 0) serial_ring.put(byte);
  if ((state & kOverrun) != 0) serial_ring.count_lost();
}

void init(int, char**) {
  move_vectors_to_ram();
  read_resets();
  start_watchdog();
  const uint32_t core_hz = start_clock();
  cycles.start();
  start_systick(core_hz);
  start_serial(core_hz);
  enable_interrupts();
}

const char* id() { return kId; }

// An emulator that does not say which chip it is has no identity to read either: uses its name.
uint32_t unique_id(uint8_t out[kMaxUniqueIdBytes]) {
  uint32_t n = 0;
  if ((reg(kChip) & 0xFFF) == kChipId) {
    for (; n < kUniqueIdBytes; ++n) {
      out[n] = static_cast<uint8_t>(reg(kUniqueId + (n & ~3u)) >> (8 * (n & 3)));
    }
    return n;
  }
  for (; n < kMaxUniqueIdBytes && kId[n] != 0; ++n) out[n] = static_cast<uint8_t>(kId[n]);
  return n;
}

void write(const uint8_t* data, uint32_t n) {
  write_bytes(data, n, kUsartData, [] { return (reg(kUsartState) & kTransmitEmpty) != 0; });
}

uint32_t millis() { return tick_count; }
uint64_t instructions() { return cycles.read(); }

void reset() {
  static_cast<void>(wait_until([] { return (reg(kUsartState) & kSent) != 0; }));
  note_asked();
  system_reset();
}

}  // namespace kilotune::board
