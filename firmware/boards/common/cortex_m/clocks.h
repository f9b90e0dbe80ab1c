// The core's own clocks: SysTick for milliseconds, DWT for cycles.
#ifndef KILOTUNE_BOARDS_COMMON_CORTEX_M_CLOCKS_H_
#define KILOTUNE_BOARDS_COMMON_CORTEX_M_CLOCKS_H_

#include <cstdint>

#include "boards/common/cortex_m/core.h"

namespace kilotune::board {

// Ends a WFI every millisecond; the board's tick handler counts.
inline void start_systick(uint32_t core_hz) {
  constexpr uintptr_t kControl = 0xE000E010, kReload = 0xE000E014, kValue = 0xE000E018;
  constexpr uint32_t kEnable = 1, kInterrupt = 2, kCoreClock = 4;
  reg(kReload) = core_hz / 1000 - 1;
  reg(kValue) = 0;
  reg(kControl) = kEnable | kInterrupt | kCoreClock;
}

// 64 bits of core cycles; counts while the core is awake. `tick` more often than every 2^32 cycles.
class CycleCounter {
 public:
  void start() {
    constexpr uintptr_t kDemcr = 0xE000EDFC, kControl = 0xE0001000;
    reg(kDemcr) |= 1u << 24;  // TRCENA
    reg(kCount) = 0;
    reg(kControl) |= 1;
    present_ = wait_until([] { return reg(kCount) != 0; }, 1000);
  }
  [[gnu::always_inline]] void tick() {  // interrupt, or with interrupts off
    const uint32_t now = reg(kCount);
    total_ += now - last_;
    last_ = now;
  }
  uint64_t read() {  // main loop; 0: this core has no such counter
    if (!present_) return 0;
    disable_interrupts();
    tick();
    const uint64_t total = total_;
    enable_interrupts();
    return total;
  }

 private:
  static constexpr uintptr_t kCount = 0xE0001004;
  uint64_t total_ = 0;
  uint32_t last_ = 0;
  bool present_ = false;
};

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_COMMON_CORTEX_M_CLOCKS_H_
