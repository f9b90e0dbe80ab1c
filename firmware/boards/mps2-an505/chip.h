// Clock and secure addresses of the MPS2+ FPGA image AN505.
#ifndef KILOTUNE_BOARDS_MPS2_AN505_CHIP_H_
#define KILOTUNE_BOARDS_MPS2_AN505_CHIP_H_

#include <cstdint>

#define KILOTUNE_NOPS_A_SAMPLE "45"  // instructions per tick, minus 5

namespace kilotune::board {
constexpr uint32_t kClockHz = 20000000;
constexpr uintptr_t kTimer = 0x50000000;
constexpr uintptr_t kUart = 0x50200000;
constexpr uintptr_t kWatchdog = 0x50081000;
constexpr uintptr_t kFpgaIo = 0x50302000;
}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_MPS2_AN505_CHIP_H_
