// What startup.cpp needs from a board: `kInterruptCount` and KILOTUNE_INTERRUPTS, the handlers in
// the order of their numbers, from the board's own interrupts.h.
#ifndef KILOTUNE_BOARDS_COMMON_CORTEX_M_STARTUP_H_
#define KILOTUNE_BOARDS_COMMON_CORTEX_M_STARTUP_H_

#include "boards/board.h"

namespace kilotune::board {
using Handler = void (*)();
}

#include "interrupts.h"  // of the board

#endif  // KILOTUNE_BOARDS_COMMON_CORTEX_M_STARTUP_H_
