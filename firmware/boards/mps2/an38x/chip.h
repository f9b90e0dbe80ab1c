// Clock and addresses of the MPS2 FPGA images AN385, AN386 and AN500.
#ifndef KILOTUNE_BOARDS_MPS2_AN38X_CHIP_H_
#define KILOTUNE_BOARDS_MPS2_AN38X_CHIP_H_

#include <cstdint>

#define KILOTUNE_NOPS_A_SAMPLE "35"  // instructions per tick, minus 5

namespace kilotune::board {
constexpr uint32_t kClockHz = 25000000;
constexpr uintptr_t kTimer = 0x40000000;
constexpr uintptr_t kUart = 0x40004000;
constexpr uintptr_t kWatchdog = 0x40008000;
constexpr uintptr_t kFpgaIo = 0x40028000;
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_MPS2_AN38X_CHIP_H_
