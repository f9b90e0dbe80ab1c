// The core's own clocks: SysTick for milliseconds, DWT for cycles.
#ifndef KILOTUNE_BOARDS_COMMON_CORTEX_M_CLOCKS_H_
#define KILOTUNE_BOARDS_COMMON_CORTEX_M_CLOCKS_H_

#include <cstdint>

#include "boards/board.h"
#include "boards/common/cortex_m/core.h"

namespace kilotune::board {

constexpr uintptr_t kSysTickControl = 0xE000E010;

inline void start_systick_periods(uint32_t core_cycles) {
  constexpr uintptr_t kReload = 0xE000E014, kValue = 0xE000E018;
  constexpr uint32_t kEnable = 1, kInterrupt = 2, kCoreClock = 4;
  reg(kReload) = core_cycles - 1;
  reg(kValue) = 0;
  reg(kSysTickControl) = kEnable | kInterrupt | kCoreClock;
}

// Ends a WFI every millisecond; the board's tick handler counts.
inline void start_systick(uint32_t core_hz) { start_systick_periods(core_hz / 1000); }

// `sleep` of a board that counts its time without a tick. SysTick runs during the sleep alone, and
// its interrupt is taken back before it is let in: what is computed, and counted, is not disturbed.
template <uint32_t kCoreHz>
inline void sleep_without_tick() {
  constexpr uint32_t kCycles = kCoreHz / 1000 * kLongestSleepMs;
  static_assert(kCycles <= 1u << 24, "SysTick has 24 bits");
  constexpr uint32_t kClearSysTick = 1u << 25;
  start_systick_periods(kCycles);
  wait_for_interrupt();
  reg(kSysTickControl) = 0;
  reg(kIcsr) = kClearSysTick;
  asm volatile("dsb\n isb" ::: "memory");
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
