// The flash chip beside an RP2040; provides board.h's checkpoint_flash and key_flash.
#ifndef KILOTUNE_BOARDS_RPI_PICO_FLASH_H_
#define KILOTUNE_BOARDS_RPI_PICO_FLASH_H_

#include <cstdint>

namespace kilotune::board {

constexpr uint32_t kFlashIdBytes = 8;

// Looks up the ROM's flash routines and reads the chip's identity. Call before the others.
void prepare_flash();
const uint8_t* flash_id();  // of kFlashIdBytes

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_RPI_PICO_FLASH_H_
