// MPS2 with the FPGA images AN385 (Cortex-M3), AN386 (Cortex-M4F), AN500 (Cortex-M7) and AN505
// (Cortex-M33): CMSDK UART, timer and watchdog, FPGAIO.
//
// Registers: Arm "Application Note AN385/AN386" and "AN505", "Cortex-M System Design Kit Technical
// Reference Manual". PSRAM stands in for flash: an emulator keeps it in a file.
#include "boards/board.h"

#include "board_layout.h"
#include "boards/common/cortex_m/clocks.h"
#include "boards/common/cortex_m/port.h"
#include "boards/common/cortex_m/startup.h"
#include "boards/common/nor_region.h"
#if KILOTUNE_TORN_FLASH
#include "boards/common/torn_region.h"
#endif
#include "chip.h"

namespace kilotune::board {
namespace {

// CMSDK UART 0
constexpr uintptr_t kUartData = kUart + 0x0;
constexpr uintptr_t kUartState = kUart + 0x4;
constexpr uintptr_t kUartControl = kUart + 0x8;
constexpr uintptr_t kUartInterrupt = kUart + 0xC;  // write 1 to clear
constexpr uintptr_t kUartDivider = kUart + 0x10;   // at least 16
constexpr uint32_t kTransmitFull = 1u << 0, kReceiveFull = 1u << 1, kReceiveOverrun = 1u << 3;
constexpr uint32_t kTransmitEnable = 1u << 0, kReceiveEnable = 1u << 1;
constexpr uint32_t kReceiveInterruptEnable = 1u << 3;
constexpr uint32_t kReceiveInterrupt = 1u << 1;
constexpr uint32_t kBaud = 115200;

// CMSDK timer 0: counts down at the system clock
constexpr uintptr_t kTimerControl = kTimer + 0x0;
constexpr uintptr_t kTimerValue = kTimer + 0x4;
constexpr uintptr_t kTimerReload = kTimer + 0x8;

// CMSDK watchdog: counts down at the system clock. The first time it warns by NMI, whose handler
// records where the firmware hung; the second time it resets. An emulator runs on wall-clock time,
// and a busy computer is not a hang: 20 s.
constexpr uintptr_t kWatchdogReload = kWatchdog + 0x0;
constexpr uintptr_t kWatchdogControl = kWatchdog + 0x8;
constexpr uintptr_t kWatchdogFeed = kWatchdog + 0xC;
constexpr uint32_t kWatchdogSeconds = 20;
static_assert(kWatchdogSeconds * 1000 >= kShortestWatchdogMs);
constexpr uint32_t kWatchdogWarns = 1u << 0, kWatchdogResets = 1u << 1;

// FPGAIO: COUNTER is incremented whenever the prescaler has run down
constexpr uintptr_t kCounter = kFpgaIo + 0x18;
constexpr uintptr_t kPrescaler = kFpgaIo + 0x1C;

// --- instruction counter: under an emulator where one instruction takes one virtual nanosecond, a
// tick of the 25 MHz timer is 40 instructions (20 MHz: 50). Sampled every 41 (51), it advances by
// one tick each time until the phase has slipped by a whole tick: the number of samples until then
// gives the instruction within the tick.
constexpr uint32_t kInstructionsPerTick = 1000000000 / kClockHz;
constexpr uint32_t kSampleSpacing = kInstructionsPerTick + 1;  // of the loop below: 6 and its nops
uint64_t own_instructions = 0;  // spent in readings, so that they do not count themselves
bool counts_instructions = false;
uint32_t fixed_cost = 0;  // of a reading, beside its samples

struct Sample {
  uint32_t ticks;  // of the timer, upwards
  uint32_t slips;  // samples until the phase had slipped, 1 to instructions per tick
};

Sample sample_timer() {
  uint32_t first, slips, before, now;
  asm volatile(
      "movs %[slips], #0\n"
      "ldr %[first], [%[timer]]\n"
      "mov %[before], %[first]\n"
      "nop\n nop\n nop\n"
      "1:\n"
      ".rept " KILOTUNE_NOPS_A_SAMPLE
      "\n nop\n .endr\n"
      "adds %[slips], #1\n"
      "ldr %[now], [%[timer]]\n"
      "subs %[before], %[before], %[now]\n"
      "cmp %[before], #1\n"
      "mov %[before], %[now]\n"
      "beq 1b\n"
      : [slips] "=&l"(slips), [first] "=&l"(first), [before] "=&l"(before), [now] "=&l"(now)
      : [timer] "l"(kTimerValue)
      : "cc", "memory");
  return {~first, slips};
}

// Instructions since the timer started, without those of the readings themselves.
uint64_t read_counter() {
  disable_interrupts();
  const Sample s = sample_timer();
  // The timer's 32 bits, extended by the slower clock: the nearest value to that clock.
  const uint64_t coarse = uint64_t{millis()} * (kClockHz / 1000);
  const auto off = static_cast<int32_t>(s.ticks - static_cast<uint32_t>(coarse));
  const uint64_t ticks = coarse + static_cast<uint64_t>(static_cast<int64_t>(off));
  const uint64_t count = (ticks + 1) * kInstructionsPerTick - s.slips - own_instructions;
  own_instructions += s.slips * kSampleSpacing + fixed_cost;
  enable_interrupts();
  return count;
}

// 3 instructions per turn.
void run_turns(uint32_t turns) {
  asm volatile(
      "1: nop\n"
      "subs %[n], #1\n"
      "bne 1b\n"
      : [n] "+l"(turns)
      :
      : "cc");
}

uint32_t measure_turns(uint32_t turns) {
  const uint64_t from = read_counter();
  run_turns(turns);
  return static_cast<uint32_t>(read_counter() - from);
}

// True where virtual time counts instructions; three exact spans rule out wall-clock chance.
bool time_is_instructions() {
  fixed_cost = measure_turns(1) - 3;
  constexpr uint32_t kCall = 8;  // a few instructions around the loop
  for (uint32_t i = 1; i <= 3; ++i) {
    const uint32_t span = measure_turns(2000 * i);
    if (span < 6000 * i || span > 6000 * i + kCall) return false;
  }
  return true;
}

bool line_ready() { return (reg(kUartState) & kTransmitFull) == 0; }

void start_watchdog() {
  reg(kWatchdogReload) = kWatchdogSeconds * kClockHz;
  reg(kWatchdogControl) = kWatchdogWarns | kWatchdogResets;
}

}  // namespace

void feed_watchdog() { reg(kWatchdogFeed) = 1; }

void sleep() { sleep_without_tick<kClockHz>(); }

void init(int, char**) {
  start_watchdog();
  reg(kTimerReload) = 0xFFFFFFFFu;
  reg(kTimerValue) = 0xFFFFFFFFu;
  reg(kTimerControl) = 1;
  reg(kPrescaler) = kClockHz / 1000 - 1;
  reg(kCounter) = 0;
  counts_instructions = time_is_instructions();
  reg(kUartDivider) = kClockHz / kBaud;
  reg(kUartControl) = kTransmitEnable | kReceiveEnable | kReceiveInterruptEnable;
  enable_interrupt(kUart0ReceiveInterrupt);
  enable_interrupts();
}

const char* id() { return kId; }

// Software cannot read a serial number of this board: all boards with one FPGA image share a name.
uint32_t unique_id(uint8_t out[kMaxUniqueIdBytes]) {
  uint32_t n = 0;
  for (; n < kMaxUniqueIdBytes && kId[n] != 0; ++n) out[n] = static_cast<uint8_t>(kId[n]);
  return n;
}

void on_uart0_receive() {
  reg(kUartInterrupt) = kReceiveInterrupt;
  while ((reg(kUartState) & kReceiveFull) != 0)
    serial_ring.put(static_cast<uint8_t>(reg(kUartData)));
  if ((reg(kUartState) & kReceiveOverrun) != 0) {
    reg(kUartState) = kReceiveOverrun;
    serial_ring.count_lost();
  }
}

void write(const uint8_t* data, uint32_t n) { write_bytes(data, n, kUartData, line_ready); }

uint32_t millis() { return reg(kCounter); }

uint64_t instructions() { return counts_instructions ? read_counter() : 0; }

#if KILOTUNE_TORN_FLASH
volatile uint32_t* torn_fuse() {
  return reinterpret_cast<volatile uint32_t*>(kFlashBase + kFlashBytes - 8);
}
#endif

const Flash* checkpoint_flash() {
#if KILOTUNE_TORN_FLASH
  static const Flash flash = torn_region<kSectorBytes>(
      reinterpret_cast<uint8_t*>(kFlashBase + kCheckpointOffset), kSectorCount);
  return &flash;
#else
  return &MappedRegion<kCheckpointOffset, kSectorBytes, kSectorCount, nor_erase<kSectorBytes>,
                       nor_program>::kFlash;
#endif
}

const Flash* model_flash() {
#if KILOTUNE_TORN_FLASH
  static const Flash flash = torn_region<kModelSectorBytes>(
      reinterpret_cast<uint8_t*>(kFlashBase + kModelOffset), kModelSectorCount);
  return &flash;
#else
  return &MappedRegion<kModelOffset, kModelSectorBytes, kModelSectorCount,
                       nor_erase<kModelSectorBytes>, nor_program>::kFlash;
#endif
}

const Flash* key_flash() {
  return &MappedRegion<kKeyOffset, kKeySectorBytes, kKeySectorCount, nor_erase<kKeySectorBytes>,
                       nor_program>::kFlash;
}

void reset() {
  static_cast<void>(line_takes(line_ready, 1));
  note_asked();
  system_reset();
}

}  // namespace kilotune::board
