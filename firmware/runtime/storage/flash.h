// The porting contract for non-volatile memory: what a board provides so that records survive.
#ifndef KILOTUNE_RUNTIME_STORAGE_FLASH_H_
#define KILOTUNE_RUNTIME_STORAGE_FLASH_H_

#include <cstdint>

#include "kernel/status.h"

namespace kilotune {

// A region of NOR-like flash. Erased bytes read 0xFF; programming only clears bits. A power cut may
// leave any bits in what was being erased or programmed, even bits that do not read the same twice.
// None of these calls is made from an interrupt.
struct Flash {
  const uint8_t* base;    // memory-mapped start of the region; plain loads read it
  uint32_t sector_bytes;  // erase unit; a multiple of 16
  uint32_t sector_count;
  uint32_t word_bytes;  // program unit: 1, 2, 4, 8 or 16
  void* context;        // handed to the calls below
  // Erases the sector that starts at `off` to 0xFF.
  Status (*erase)(void* context, uint32_t off);
  // Programs `n` bytes at `off`, both multiples of word_bytes, onto erased words; all bytes zero:
  // onto any words, once more at most unless power was cut.
  Status (*program)(void* context, uint32_t off, const uint8_t* data, uint32_t n);
  // If sectors differ: the size of each in bytes, in order; null: all have `sector_bytes`.
  const uint32_t* sector_sizes = nullptr;
  // Null: loads from `base`.
  void (*read)(void* context, uint32_t off, uint8_t* out, uint32_t n) = nullptr;
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_STORAGE_FLASH_H_
