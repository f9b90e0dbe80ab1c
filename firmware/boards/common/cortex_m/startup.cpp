// Reset, vector table and faults of every Cortex-M board.
#include "boards/common/cortex_m/startup.h"

#include "boards/common/cortex_m/core.h"

extern "C" {
extern uint32_t __stack_bottom[], __stack_top[];
extern uint32_t __data_start[], __data_end[], __data_load[];
extern uint32_t __bss_start[], __bss_end[];
using Constructor = void (*)();
extern Constructor __init_array_start[], __init_array_end[];
extern uint8_t __engine_start[], __engine_end[];

int main(int argc, char** argv);
[[noreturn]] void reset_handler();
[[noreturn]] void report_fault(const uint32_t* frame);
}

namespace kilotune::board {
namespace {

constexpr uint32_t kPaint = 0xC0DEC0DEu;
constexpr uint32_t kRunMagic = 0xFA017EC0u;
constexpr uint32_t kNonMaskable = 2;  // IPSR; of a watchdog, where it is used at all
// In place of a program counter; no instruction has an address below the vector table's end.
constexpr uint32_t kUnexpectedInterrupt = 1;
constexpr uint32_t kStackOverflow = 2;

// What one run passes to the next: survives a reset, not a power cycle. From the start on it says
// that something other than the firmware ended the run.
struct RunRecord {
  uint32_t check;
  Fault fault;
  uint32_t cause;  // RestartCause
};
[[gnu::section(".noinit")]] RunRecord run_record;
Fault told_fault;  // by the run before
RestartCause told_cause;

uint32_t check_of(const RunRecord& r) {
  return kRunMagic ^ r.fault.pc ^ r.fault.lr ^ r.fault.status ^ r.cause;
}

void leave(RestartCause cause, const Fault& fault) {
  run_record = {0, fault, static_cast<uint32_t>(cause)};
  run_record.check = check_of(run_record);
}

void take_record() {
  const bool left = run_record.check == check_of(run_record);
  told_cause = left ? static_cast<RestartCause>(run_record.cause) : RestartCause::power;
  if (left) told_fault = run_record.fault;
  leave(RestartCause::outside, {0, 0, 0});
}

uint32_t exception_number() {
  uint32_t number;
  asm volatile("mrs %0, ipsr" : "=r"(number));
  return number & 0x1FF;
}

// Passes on the frame that the core pushed, on an empty stack: the old one may have overflowed.
[[gnu::naked, noreturn]] void fault_handler() {
  asm volatile(
      "mov r0, sp\n"
      "ldr r1, =__stack_top\n"
      "mov sp, r1\n"
      "ldr r1, =report_fault\n"
      "bx r1\n");
}

[[noreturn]] void unexpected_handler() {
  const uint32_t frame[8] = {0, 0, 0, 0, 0, 0, kUnexpectedInterrupt, 0};
  report_fault(frame);
}

// The core's exceptions by number, then the chip's interrupts; a board adds those that it uses.
constexpr Vectors vector_table() {
  constexpr uint32_t kFirstFault = 2, kLastFault = 7;  // NMI, hard fault, ..., secure fault
  Vectors v{__stack_top, {}};
  for (Handler& handler : v.handlers) handler = unexpected_handler;
  v.handlers[0] = reset_handler;
  for (uint32_t i = kFirstFault; i <= kLastFault; ++i) v.handlers[i - 1] = fault_handler;
  for (const Interrupt& i : kInterrupts) {
    v.handlers[static_cast<int32_t>(kCoreVectors) - 1 + i.number] = i.handler;
  }
  return v;
}

}  // namespace

// Faults that are not enabled one by one arrive as a hard fault; some emulators keep them separate.
[[gnu::section(".vectors"), gnu::used]] constexpr Vectors vectors = vector_table();

Fault last_fault() { return told_fault; }
RestartCause restart_cause() { return told_cause; }

void note_watchdog_reset() {
  if (told_cause == RestartCause::power || told_cause == RestartCause::outside) {
    told_cause = RestartCause::watchdog;
  }
}

void note_asked() { leave(RestartCause::asked, {0, 0, 0}); }

RamUse ram_use() {
  const uint32_t* deepest = __stack_bottom;
  while (deepest < __stack_top && *deepest == kPaint) ++deepest;
  const auto bytes = [](const void* from, const void* to) {
    return static_cast<uint32_t>(static_cast<const uint8_t*>(to) -
                                 static_cast<const uint8_t*>(from));
  };
  return {bytes(__data_start, __data_end) + bytes(__bss_start, __bss_end) +
              bytes(__engine_start, __engine_end) + static_cast<uint32_t>(sizeof run_record),
          bytes(__stack_bottom, __stack_top), bytes(deepest, __stack_top)};
}

Block engine_ram() {
  return {__engine_start, static_cast<uint32_t>(__engine_end - __engine_start)};
}

// Paints the unused stack, then fills .data and .bss; runs on an empty stack.
void prepare_memory() {
  uint32_t* here;
  asm volatile("mov %0, sp" : "=r"(here));
  for (uint32_t* p = __stack_bottom; p < here; ++p) *p = kPaint;
  const uint32_t* from = __data_load;
  for (uint32_t* p = __data_start; p < __data_end; ++p) *p = *from++;
  for (uint32_t* p = __bss_start; p < __bss_end; ++p) *p = 0;
  take_record();
}

}  // namespace kilotune::board

extern "C" void reset_handler() {
  kilotune::board::enable_fpu();
  kilotune::board::guard_below(reinterpret_cast<uintptr_t>(__stack_bottom));
  kilotune::board::prepare_memory();
  for (const Constructor* c = __init_array_start; c < __init_array_end; ++c) (*c)();
  main(0, nullptr);
  kilotune::board::system_reset();
}

// Saves what is known for the next run, then restarts: the wire may be in any state.
extern "C" void report_fault(const uint32_t* frame) {
  using namespace kilotune::board;
  // Without room for it, the core pushed no frame.
  const bool overflow =
      frame < __stack_bottom || frame + 8 > __stack_top || (fault_status() & kFrameLost) != 0;
  const Fault fault = {overflow ? kStackOverflow : frame[6], overflow ? 0 : frame[5],
                       fault_status()};
  const bool hung = exception_number() == kNonMaskable;
  leave(hung ? RestartCause::watchdog : RestartCause::fault, fault);
  system_reset();
}
