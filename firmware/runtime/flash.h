// The porting contract for non-volatile memory: what a board gives so that checkpoints survive.
#ifndef KILOTUNE_RUNTIME_FLASH_H_
#define KILOTUNE_RUNTIME_FLASH_H_

#include <cstdint>

#include "kernel/status.h"

namespace kilotune {

// A region of NOR-like flash for checkpoints. Erased bytes read 0xFF; program only clears bits.
// None of these calls is made from an interrupt.
struct Flash {
  const uint8_t* base;    // memory-mapped start of the region; plain loads read it
  uint32_t sector_bytes;  // erase unit; a multiple of word_bytes
  uint32_t sector_count;  // at least 3: current, previous, staging
  uint32_t word_bytes;    // program unit: 1, 2, 4, 8 or 16
  void* context;          // handed to the calls below
  // Erases the sector that starts at `off` (a multiple of sector_bytes) to 0xFF.
  Status (*erase)(void* context, uint32_t off);
  // Programs `n` bytes at `off`, both multiples of word_bytes, onto erased words.
  Status (*program)(void* context, uint32_t off, const uint8_t* data, uint32_t n);
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_FLASH_H_
