// Checkpoints in the flash chip beside an RP2040.
#ifndef KILOTUNE_BOARDS_RPI_PICO_FLASH_H_
#define KILOTUNE_BOARDS_RPI_PICO_FLASH_H_

#include "runtime/flash.h"

namespace kilotune::board {

constexpr uint32_t kFlashIdBytes = 8;

// Reads where the ROM has its flash routines, and the chip's identity. Before the others.
void prepare_flash();
const Flash* external_flash();
const uint8_t* flash_id();  // of kFlashIdBytes

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_RPI_PICO_FLASH_H_
