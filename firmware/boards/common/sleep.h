// Sleep by the millisecond clock, as SensorBus requires it.
#ifndef KILOTUNE_BOARDS_COMMON_SLEEP_H_
#define KILOTUNE_BOARDS_COMMON_SLEEP_H_

#include "boards/board.h"

namespace kilotune::board {

inline void sleep_ms(void*, uint32_t ms) {
  const uint32_t start = millis();
  while (millis() - start < ms) wait();
}

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_COMMON_SLEEP_H_
