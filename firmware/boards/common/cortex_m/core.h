// The few registers and instructions of a Cortex-M core that boards use (Arm v6-M, v7-M manuals).
#ifndef KILOTUNE_BOARDS_COMMON_CORTEX_M_CORE_H_
#define KILOTUNE_BOARDS_COMMON_CORTEX_M_CORE_H_

#include <cstdint>

// A function that stays callable while flash cannot be read. What it calls and reads must not be in
// flash either.
#define KILOTUNE_RAM_CODE [[gnu::section(".ramcode"), gnu::noinline]]

namespace kilotune::board {

inline volatile uint32_t& reg(uintptr_t address) {
  return *reinterpret_cast<volatile uint32_t*>(address);
}

// For registers on which a read has side effects.
inline void read_for_effect(uintptr_t address) {
  const uint32_t value = reg(address);
  static_cast<void>(value);
}

constexpr uintptr_t kNvicSetEnable = 0xE000E100;  // ISER0
constexpr uintptr_t kIcsr = 0xE000ED04;
constexpr uintptr_t kVtor = 0xE000ED08;
constexpr uintptr_t kAircr = 0xE000ED0C;
constexpr uintptr_t kCfsr = 0xE000ED28;
constexpr uintptr_t kCpacr = 0xE000ED88;
constexpr uintptr_t kMpuType = 0xE000ED90;
constexpr uintptr_t kMpuControl = 0xE000ED94;
constexpr uintptr_t kMpuRegion = 0xE000ED98;
constexpr uintptr_t kMpuBase = 0xE000ED9C;
constexpr uintptr_t kMpuAttributes = 0xE000EDA0;
constexpr uint32_t kAircrKey = 0x05FA0000;
constexpr uint32_t kSysResetReq = 1u << 2;
// CFSR: the MPU or the bus forbade to push the frame (Arm v7-M), or the stack's limit did (v8-M).
constexpr uint32_t kFrameLost = 1u << 4 | 1u << 12 | 1u << 20;
constexpr uint32_t kFullAccessToFpu = 0xFu << 20;  // CP10 and CP11

inline void disable_interrupts() { asm volatile("cpsid i" ::: "memory"); }
inline void enable_interrupts() { asm volatile("cpsie i\n isb" ::: "memory"); }
inline void wait_for_interrupt() { asm volatile("dsb\n wfi" ::: "memory"); }
inline void enable_interrupt(int32_t number) {
  const auto n = static_cast<uint32_t>(number);
  reg(kNvicSetEnable + 4 * (n / 32)) = 1u << (n % 32);
}

// False when the condition has not come true within `turns`: some emulators model no clock tree.
template <typename Condition>
[[nodiscard]] inline bool wait_until(Condition condition, uint32_t turns = 1000000) {
  for (; turns > 0; --turns) {
    if (condition()) return true;
  }
  return false;
}

inline void enable_fpu() {
#if defined(__ARM_FP)
  reg(kCpacr) |= kFullAccessToFpu;
  asm volatile("dsb\n isb" ::: "memory");
#endif
}

// Protects the 1 KB below `address` (a multiple of 1 KB), so that a stack that ends there faults
// when it overflows, even where the bus has memory. Arm v8-M has a register for this purpose.
inline void guard_below(uintptr_t address) {
#if __ARM_ARCH < 8
  constexpr uint32_t kGuardBytesLog2 = 10;
  constexpr uint32_t kNever = 1u << 28, kEnable = 1;  // no execution, no access
  constexpr uint32_t kElseAsWithoutMpu = 1u << 2;
  if (reg(kMpuType) == 0) return;
  reg(kMpuRegion) = 0;
  reg(kMpuBase) = address - (1u << kGuardBytesLog2);
  reg(kMpuAttributes) = kNever | ((kGuardBytesLog2 - 1) << 1) | kEnable;
  reg(kMpuControl) = kElseAsWithoutMpu | kEnable;
  asm volatile("dsb\n isb" ::: "memory");
#else
  asm volatile("msr msplim, %0" ::"r"(address));
#endif
}

inline uint32_t fault_status() {
#if __ARM_ARCH >= 7
  return reg(kCfsr);
#else
  return 0;  // Arm v6-M has no such register
#endif
}

[[noreturn]] inline void system_reset() {
  asm volatile("dsb" ::: "memory");
  reg(kAircr) = kAircrKey | kSysResetReq;
  asm volatile("dsb" ::: "memory");
  for (;;) {
  }
}

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_COMMON_CORTEX_M_CORE_H_
