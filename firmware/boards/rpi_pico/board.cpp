// Raspberry Pi Pico: clocks of the RP2040, UART 0 on GP0 and GP1, SysTick, watchdog, identity.
//
// Registers: Raspberry Pi "RP2040 Datasheet"; Arm PL011 for the UART. Registers have aliases that
// set or clear single bits.
#include "boards/board.h"

#include "board_layout.h"
#include "boards/common/cortex_m/clocks.h"
#include "boards/common/cortex_m/port.h"
#include "boards/common/cortex_m/startup.h"
#include "flash.h"

namespace kilotune::board {
namespace {

constexpr uintptr_t kSetAlias = 0x2000, kClearAlias = 0x3000;
constexpr uint32_t kCoreHz = 125000000;

constexpr uintptr_t kResets = 0x4000C000;  // set bits are held in reset
constexpr uintptr_t kResetsDone = 0x4000C008;
constexpr uint32_t kResetPins = 1u << 5, kResetPads = 1u << 8, kResetPll = 1u << 12,
                   kResetUart0 = 1u << 22;

constexpr uintptr_t kCrystalControl = 0x40024000;
constexpr uintptr_t kCrystalState = 0x40024004;
constexpr uintptr_t kCrystalStartup = 0x4002400C;
constexpr uint32_t kCrystalOn = 0xFABAA0;  // 1 to 15 MHz
constexpr uint32_t kCrystalDelay = 47;     // 1 ms, in units of 256 periods of 12 MHz
constexpr uint32_t kCrystalStable = 1u << 31;

constexpr uintptr_t kPllControl = 0x40028000;
constexpr uintptr_t kPllPower = 0x40028004;
constexpr uintptr_t kPllFeedback = 0x40028008;
constexpr uintptr_t kPllDividers = 0x4002800C;
constexpr uint32_t kPllLocked = 1u << 31, kPllOscillatorOff = 1u << 5, kPllDividersOff = 1u << 3,
                   kPllOff = 1u << 0;

constexpr uintptr_t kReferenceControl = 0x40008030;
constexpr uintptr_t kReferenceSelected = 0x40008038;
constexpr uintptr_t kSystemControl = 0x4000803C;
constexpr uintptr_t kSystemSelected = 0x40008044;
constexpr uintptr_t kPeripheralControl = 0x40008048;
constexpr uint32_t kFromCrystal = 2, kFromAuxiliary = 1, kPeripheralOn = 1u << 11;

constexpr uintptr_t kPin0Function = 0x40014004, kPin1Function = 0x4001400C;
constexpr uint32_t kFunctionUart = 2;

constexpr uintptr_t kUart = 0x40034000;
constexpr uintptr_t kUartData = kUart + 0x00;
constexpr uintptr_t kUartState = kUart + 0x18;
constexpr uintptr_t kUartDivider = kUart + 0x24;
constexpr uintptr_t kUartFraction = kUart + 0x28;  // of 64
constexpr uintptr_t kUartLine = kUart + 0x2C;
constexpr uintptr_t kUartControl = kUart + 0x30;
constexpr uintptr_t kUartLevels = kUart + 0x34;
constexpr uintptr_t kUartInterrupts = kUart + 0x38;
constexpr uintptr_t kUartClear = kUart + 0x44;
constexpr uint32_t kBusy = 1u << 3, kReceiveEmpty = 1u << 4, kTransmitFull = 1u << 5;
constexpr uint32_t kEightBits = 3u << 5, kQueues = 1u << 4;
constexpr uint32_t kUartOn = 1u << 0 | 1u << 8 | 1u << 9;  // both directions
constexpr uint32_t kReceived = 1u << 4, kReceiveTimeout = 1u << 6;
constexpr uint32_t kOverrun = 1u << 11;  // of the data
constexpr uint32_t kBaud = 115200;
constexpr uint32_t kDivider64 = (kCoreHz * 4 + kBaud / 2) / kBaud;  // clock / (16 baud), in 64ths

constexpr uintptr_t kWatchdog = 0x40058000;
constexpr uintptr_t kWatchdogLoad = 0x40058004;
constexpr uintptr_t kWatchdogReason = 0x40058008;
constexpr uint32_t kByTimeout = 1u << 0;
constexpr uintptr_t kWatchdogTick = 0x4005802C;
constexpr uintptr_t kResetByWatchdog = 0x40010008;  // PSM
constexpr uint32_t kWatchdogOn = 1u << 30, kWatchdogNow = 1u << 31, kPausedByDebugger = 7u << 24;
constexpr uint32_t kWatchdogLongest = 0xFFFFFF;  // counted twice a microsecond: 8.4 s
static_assert(kWatchdogLongest / 2000 >= kShortestWatchdogMs);
constexpr uint32_t kTickEnable = 1u << 9, kCrystalMhz = 12;
constexpr uint32_t kAllButOscillators = 0x1FFFC;

volatile uint32_t tick_count = 0;

void start_watchdog() {
  reg(kWatchdogTick) = kTickEnable | kCrystalMhz;
  reg(kResetByWatchdog + kSetAlias) = kAllButOscillators;
  feed_watchdog();
  reg(kWatchdog) = kWatchdogOn | kPausedByDebugger;
}

// A reset of the core alone leaves everything else as it was, so each block is reset before use.
void restart(uint32_t blocks) {
  reg(kResets + kSetAlias) = blocks;
  reg(kResets + kClearAlias) = blocks;
  while ((reg(kResetsDone) & blocks) != blocks) {
  }
}

void start_clocks() {
  reg(kCrystalStartup) = kCrystalDelay;
  reg(kCrystalControl) = kCrystalOn;
  while ((reg(kCrystalState) & kCrystalStable) == 0) {
  }
  reg(kReferenceControl) = kFromCrystal;
  while ((reg(kReferenceSelected) & 1u << kFromCrystal) == 0) {
  }
  reg(kSystemControl + kClearAlias) = kFromAuxiliary;  // the PLL may be in use
  while ((reg(kSystemSelected) & 1) == 0) {
  }
  restart(kResetPll);
  reg(kPllControl) = 1;     // 12 MHz
  reg(kPllFeedback) = 125;  // * 125 = 1500 MHz
  reg(kPllPower + kClearAlias) = kPllOff | kPllOscillatorOff;
  while ((reg(kPllControl) & kPllLocked) == 0) {
  }
  reg(kPllDividers) = 6u << 16 | 2u << 12;  // / 12 = 125 MHz
  reg(kPllPower + kClearAlias) = kPllDividersOff;
  reg(kSystemControl) = 0;  // the auxiliary source is this PLL
  reg(kSystemControl) = kFromAuxiliary;
  while ((reg(kSystemSelected) & 1u << kFromAuxiliary) == 0) {
  }
  reg(kPeripheralControl) = kPeripheralOn;  // the core's clock
}

void start_serial() {
  restart(kResetPins | kResetPads | kResetUart0);
  reg(kUartDivider) = kDivider64 / 64;
  reg(kUartFraction) = kDivider64 % 64;
  reg(kUartLine) = kEightBits | kQueues;
  reg(kUartLevels) = 0;  // an interrupt from 4 bytes on, or after a pause
  reg(kUartInterrupts) = kReceived | kReceiveTimeout;
  reg(kUartControl) = kUartOn;
  reg(kPin0Function) = kFunctionUart;
  reg(kPin1Function) = kFunctionUart;
  enable_interrupt(kUart0Interrupt);
}

}  // namespace

void feed_watchdog() { reg(kWatchdogLoad) = kWatchdogLongest; }
void sleep() { wait_for_interrupt(); }  // until the next tick

KILOTUNE_RAM_CODE void on_tick() { tick_count = tick_count + 1; }

KILOTUNE_RAM_CODE void on_uart0() {
  reg(kUartClear) = kReceived | kReceiveTimeout;
  while ((reg(kUartState) & kReceiveEmpty) == 0) {
    const uint32_t data = reg(kUartData);
    serial_ring.put(static_cast<uint8_t>(data));
    if ((data & kOverrun) != 0) serial_ring.count_lost();
  }
}

void init(int, char**) {
  move_vectors_to_ram();
  if ((reg(kWatchdogReason) & kByTimeout) != 0) note_watchdog_reset();
  start_clocks();
  start_watchdog();
  prepare_flash();
  start_systick(kCoreHz);
  start_serial();
  enable_interrupts();
}

const char* id() { return kId; }

// The chip has no serial number; the flash beside it has one.
uint32_t unique_id(uint8_t out[kMaxUniqueIdBytes]) {
  for (uint32_t i = 0; i < kFlashIdBytes; ++i) out[i] = flash_id()[i];
  return kFlashIdBytes;
}

void write(const uint8_t* data, uint32_t n) {
  write_bytes(data, n, kUartData, [] { return (reg(kUartState) & kTransmitFull) == 0; });
}

uint32_t millis() { return tick_count; }
uint64_t instructions() { return 0; }  // this core has no counter

// Through the watchdog, which resets the whole chip.
void reset() {
  static_cast<void>(wait_until([] { return (reg(kUartState) & kBusy) == 0; }));
  note_asked();
  reg(kWatchdog + kSetAlias) = kWatchdogNow;
  for (;;) {
  }
}

}  // namespace kilotune::board
