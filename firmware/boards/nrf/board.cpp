// Boards with a Nordic nRF51 or nRF52: clock, timer, flash controller, watchdog, identity.
//
// Registers: Nordic "nRF51 Series Reference Manual" and "nRF52840 Product Specification"; both
// chips have these peripherals at the same addresses. All waits for a clock are bounded.
#include "boards/board.h"

#include "board_layout.h"
#include "boards/common/cortex_m/clocks.h"
#include "boards/common/cortex_m/startup.h"
#include "serial.h"

namespace kilotune::board {
namespace {

constexpr uintptr_t kStartCrystal = 0x40000000;  // CLOCK: HFCLKSTART
constexpr uintptr_t kCrystalStarted = 0x40000100;

constexpr uintptr_t kResets = 0x40000400;  // POWER: RESETREAS, write 1 to clear
constexpr uint32_t kByWatchdog = 1u << 1;

constexpr uintptr_t kTimer = 0x40008000;  // TIMER0
constexpr uintptr_t kTimerStart = kTimer + 0x000;
constexpr uintptr_t kTimerCapture1 = kTimer + 0x044;  // copies the count to compare register 1
constexpr uintptr_t kTimerCompared = kTimer + 0x140;
constexpr uintptr_t kTimerInterruptSet = kTimer + 0x304;
constexpr uintptr_t kTimerMode = kTimer + 0x504;
constexpr uintptr_t kTimerBits = kTimer + 0x508;
constexpr uintptr_t kTimerPrescaler = kTimer + 0x510;
constexpr uintptr_t kTimerCompare = kTimer + 0x540;
constexpr uintptr_t kTimerCount = kTimer + 0x544;  // as captured last
constexpr uint32_t kMegahertz = 4;                 // 16 MHz / 2^4
constexpr uint32_t kBits32 = 3;
constexpr uint32_t kComparedInterrupt = 1u << 16;
constexpr uint32_t kTickUs = 1000;

constexpr uintptr_t kWatchdogStart = 0x40010000;
constexpr uintptr_t kWatchdogReload = 0x40010504;  // in periods of 32,768 Hz
constexpr uintptr_t kWatchdogEnable = 0x40010508;
constexpr uintptr_t kWatchdogConfig = 0x4001050C;
constexpr uintptr_t kWatchdogFeed = 0x40010600;
constexpr uint32_t kWatchdogSeconds = 8;
static_assert(kWatchdogSeconds * 1000 >= kShortestWatchdogMs);
constexpr uint32_t kRunsInSleep = 1;  // and pauses while a debugger has halted the core
constexpr uint32_t kFeedKey = 0x6E524635;

// Access port protection, "nRF52840 Product Specification", debug and trace.
constexpr uintptr_t kPortWanted =
    0x10001208;  // UICR.APPROTECT: kPortOpen, or anything else: closed
constexpr uintptr_t kPortDisable = 0x40000558;  // APPROTECT.DISABLE, until the next reset
constexpr uint32_t kPortOpen = 0x5A;
constexpr uintptr_t kChipVariant = 0x10000104;  // FICR.INFO.VARIANT, four letters such as AAF0
constexpr uint32_t kFirstThatCloses = 'F';

constexpr uintptr_t kDeviceId = 0x10000060;  // FICR, two words

constexpr uintptr_t kFlashReady = 0x4001E400;  // NVMC
constexpr uintptr_t kFlashConfig = 0x4001E504;
constexpr uintptr_t kFlashErasePage = 0x4001E508;
enum FlashMode : uint32_t { kReadOnly = 0, kWrite = 1, kErase = 2 };

volatile uint32_t tick_count = 0;
#if KILOTUNE_HAS_CYCLE_COUNTER
CycleCounter cycles;
#endif

// Where UICR asks for an open debug port, it stays open on chips that close it at reset: a probe
// that finds it closed can only erase the whole chip, and what was learned with it. Elsewhere it is
// left.
void keep_debug_port() {
  if constexpr (kDebugPortCloses) {
    const bool closes = ((reg(kChipVariant) >> 8) & 0xFF) >= kFirstThatCloses;
    if (closes && reg(kPortWanted) == kPortOpen) reg(kPortDisable) = kPortOpen;
  }
}

void start_clocks() {
  reg(kStartCrystal) = 1;
  static_cast<void>(wait_until([] { return reg(kCrystalStarted) != 0; }));
  reg(kTimerMode) = 0;
  reg(kTimerBits) = kBits32;
  reg(kTimerPrescaler) = kMegahertz;
  reg(kTimerCompare) = kTickUs;
  reg(kTimerInterruptSet) = kComparedInterrupt;
  enable_interrupt(kTimerInterrupt);
  reg(kTimerStart) = 1;
}

void read_resets() {
  const uint32_t resets = reg(kResets);
  if ((resets & kByWatchdog) != 0) note_watchdog_reset();
  reg(kResets) = resets;
}

void start_watchdog() {
  reg(kWatchdogConfig) = kRunsInSleep;
  reg(kWatchdogReload) = kWatchdogSeconds * 32768;
  reg(kWatchdogEnable) = 1;  // only the first feed register
  reg(kWatchdogStart) = 1;
}

// --- flash: the core stalls if it fetches from flash meanwhile, so this code is in RAM where the
// interrupt handlers can be too. The longest wait is a page's erase: 22 ms on the nRF51, 85 ms on
// the nRF52.

KILOTUNE_BUSY_CODE void wait_for_flash() {
  for (uint32_t turns = kFlashTurns; turns > 0 && reg(kFlashReady) == 0; --turns) {
  }
}

KILOTUNE_BUSY_CODE void erase_page(uintptr_t address) {
  reg(kFlashConfig) = kErase;
  reg(kFlashErasePage) = static_cast<uint32_t>(address);
  wait_for_flash();
  reg(kFlashConfig) = kReadOnly;
}

KILOTUNE_BUSY_CODE void program_words(uintptr_t address, const uint8_t* data, uint32_t n) {
  reg(kFlashConfig) = kWrite;
  for (uint32_t i = 0; i < n; i += 4) {
    reg(address + i) = word_at(data + i);
    wait_for_flash();
  }
  reg(kFlashConfig) = kReadOnly;
}

// `region` is where it starts.
Status erase(void* region, uint32_t off) {
  feed_watchdog();
  erase_page(reinterpret_cast<uintptr_t>(region) + off);
  return Status::ok;  // the store checks that it is blank
}

Status program(void* region, uint32_t off, const uint8_t* data, uint32_t n) {
  feed_watchdog();
  program_words(reinterpret_cast<uintptr_t>(region) + off, data, n);
  return Status::ok;
}

}  // namespace

void feed_watchdog() { reg(kWatchdogFeed) = kFeedKey; }
void sleep() { wait_for_interrupt(); }  // until the next tick

// The timer keeps counting while an erase holds interrupts back. A compare value that it has passed
// would match only after the count has wrapped, 71 minutes later, so every tick that is due is made
// up for.
KILOTUNE_BUSY_CODE void on_tick() {
  if (reg(kTimerCompared) == 0) return;  // already made up for
  uint32_t next = reg(kTimerCompare);
  do {
    reg(kTimerCompared) = 0;
    next += kTickUs;
    reg(kTimerCompare) = next;
    tick_count = tick_count + 1;
    reg(kTimerCapture1) = 1;
  } while (reg(kTimerCount) - next < 1u << 31);
#if KILOTUNE_HAS_CYCLE_COUNTER
  cycles.tick();
#endif
}

void init(int, char**) {
#if KILOTUNE_HAS_CYCLE_COUNTER
  move_vectors_to_ram();
  cycles.start();
#endif
  keep_debug_port();
  read_resets();
  start_watchdog();
  start_clocks();
  start_serial();
  enable_interrupt(kUartInterrupt);
  enable_interrupts();
}

const char* id() { return kId; }

uint32_t unique_id(uint8_t out[kMaxUniqueIdBytes]) {
  for (uint32_t i = 0; i < 8; ++i) {
    out[i] = static_cast<uint8_t>(reg(kDeviceId + (i & 4)) >> (8 * (i & 3)));
  }
  return 8;
}

uint32_t millis() { return tick_count; }

uint64_t instructions() {
#if KILOTUNE_HAS_CYCLE_COUNTER
  return cycles.read();
#else
  return 0;
#endif
}

const Flash* checkpoint_flash() {
  return &MappedRegion<kCheckpointOffset, kSectorBytes, kSectorCount, erase, program>::kFlash;
}

const Flash* model_flash() {
  return &MappedRegion<kModelOffset, kModelSectorBytes, kModelSectorCount, erase, program>::kFlash;
}

const Flash* key_flash() {
  static_assert(kKeySectorBytes == kSectorBytes, "all pages are alike");
  return &MappedRegion<kKeyOffset, kKeySectorBytes, kKeySectorCount, erase, program>::kFlash;
}

void reset() {  // `write` returns only after the last byte has left
  note_asked();
  system_reset();
}

}  // namespace kilotune::board
