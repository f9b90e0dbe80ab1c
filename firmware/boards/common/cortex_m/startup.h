// What startup.cpp needs from a board: `kInterruptCount` and the table `kInterrupts` of those that
// it uses, in the board's own interrupts.h.
#ifndef KILOTUNE_BOARDS_COMMON_CORTEX_M_STARTUP_H_
#define KILOTUNE_BOARDS_COMMON_CORTEX_M_STARTUP_H_

#include <cstdint>

#include "boards/board.h"
#include "boards/common/cortex_m/core.h"
#include "boards/common/cortex_m/interrupt.h"
#include "interrupts.h"  // of the board

namespace kilotune::board {
constexpr uint32_t kCoreVectors = 16;  // the first one is the stack's top

struct Vectors {
  uint32_t* stack;
  Handler handlers[kCoreVectors - 1 + kInterruptCount];
};
extern const Vectors vectors;

// The chip says that its watchdog began this run: from `init`.
void note_watchdog_reset();
// The next reset is a requested one.
void note_asked();

// For a chip that cannot read its flash while it erases: interrupts still run meanwhile if their
// handlers are in RAM too. Call before interrupts are enabled; needs a core with VTOR.
inline void move_vectors_to_ram() {
  constexpr uint32_t kAlignment =
      sizeof(Vectors) <= 256 ? 256 : 512;  // a power of two, at least its size
  static_assert(sizeof(Vectors) <= kAlignment, "a larger table needs a larger alignment");
  alignas(kAlignment) static Vectors in_ram;
  in_ram = vectors;
  reg(kVtor) = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(&in_ram));
  asm volatile("dsb\n isb" ::: "memory");
}

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_COMMON_CORTEX_M_STARTUP_H_
