// What the table of a board's interrupts, in its own interrupts.h, is made of.
#ifndef KILOTUNE_BOARDS_COMMON_CORTEX_M_INTERRUPT_H_
#define KILOTUNE_BOARDS_COMMON_CORTEX_M_INTERRUPT_H_

#include <cstdint>

namespace kilotune::board {
using Handler = void (*)();

struct Interrupt {
  int32_t number;  // as in the chip's manual; kSysTick
  Handler handler;
};
constexpr int32_t kSysTick = -1;
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_COMMON_CORTEX_M_INTERRUPT_H_
