// The porting contract: all that the application asks of a board. A board is one folder with these
// functions, a board.json (memory map, read by the build and by the host) and a board.cmake.
//
// Interrupts: "any" may be called from anywhere, "loop" only from the main loop.
#ifndef KILOTUNE_BOARDS_BOARD_H_
#define KILOTUNE_BOARDS_BOARD_H_

#include <cstdint>

#include "kernel/bytes.h"
#include "runtime/flash.h"

namespace kilotune::board {

constexpr uint32_t kMaxUniqueIdBytes = 16;

struct Block {
  uint8_t* data;
  uint32_t size;
};

struct RamUse {        // bytes; 0: unknown
  uint32_t static_ram;  // .data, .bss and the engine's block
  uint32_t stack;       // reserved
  uint32_t stack_peak;  // deepest use since reset
};

// Why the last run ended in a fault; pc = 0: it did not, 1: an interrupt without handler, 2: the
// stack overflowed.
struct Fault {
  uint32_t pc, lr, status;  // status: of the core's fault register
};

// Before anything else. Afterwards bytes arrive, and interrupts are on. The arguments are those of
// a board that is a process; elsewhere there are none.                                        loop
void init(int argc, char** argv);

const char* id();                                             // folder name                    any
uint32_t unique_id(uint8_t out[kMaxUniqueIdBytes]);           // bytes written                  any

// --- serial port: receives into a ring by interrupt, so that no byte is lost while training runs
uint32_t read(uint8_t* out, uint32_t max);                    // what is there, maybe 0         loop
void write(const uint8_t* data, uint32_t n);                  // returns when all are taken     loop
uint32_t receive_capacity();                                  // of the ring: the host's credit any
uint32_t receive_dropped();                                   // ring full or line overrun      any
// Sleeps until an interrupt; returns at once when bytes wait or `read` would give some.        loop
void wait();

// --- time
uint32_t millis();                                            // wraps after 49.7 days          any
// Executed instructions, or core cycles on silicon; 0: this board counts neither.              loop
uint64_t instructions();

// --- memory
Bytes model_partition();                                      // mapped, stays as it is         any
const Flash* checkpoint_flash();                              // null: nothing persists         any
Block engine_ram();                                           // 8-aligned, not initialised     any
RamUse ram_use()   ;                                       //                                loop

// --- end
Fault last_fault();                                           // of the run before this one     any
[[noreturn]] void reset();                                    // what was sent leaves first     loop

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_BOARD_H_
