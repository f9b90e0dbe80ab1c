// A flash region as sectors and slots; reading, and writing that is verified.
#ifndef KILOTUNE_RUNTIME_STORAGE_FLASH_MAP_H_
#define KILOTUNE_RUNTIME_STORAGE_FLASH_MAP_H_

#include <cstdint>

#include "runtime/storage/flash.h"

namespace kilotune {

// A slot is the fewest sectors in a row that hold a record of a given size: one, if it fits into
// one. Slots are counted from the start of the region; each begins where the one before ends.
struct Slot {
  uint32_t sector = 0, sectors = 0;  // the first, and how many
  uint32_t off = 0, bytes = 0;
  [[nodiscard]] uint32_t end() const { return off + bytes; }
};

// Whether the store can work with the word size and the sector sizes.
[[nodiscard]] bool flash_usable(const Flash& flash);
[[nodiscard]] uint32_t flash_sector_bytes(const Flash& flash, uint32_t sector);
[[nodiscard]] uint32_t flash_bytes(const Flash& flash);  // of the region
// The slot after `slot` (a default one: the first) for `bytes`; false: the region ends before.
[[nodiscard]] bool flash_next_slot(const Flash& flash, uint32_t bytes, Slot& slot);

void flash_read(const Flash& flash, uint32_t off, uint8_t* out, uint32_t n);
[[nodiscard]] uint32_t flash_crc(const Flash& flash, uint32_t off, uint32_t n);
[[nodiscard]] bool flash_holds(const Flash& flash, uint32_t off, const uint8_t* data, uint32_t n);

[[nodiscard]] bool flash_blank(const Flash& flash, uint32_t off, uint32_t n);

// Programs and reads back; flash_failed if it differs.
[[nodiscard]] Status flash_program(const Flash& flash, uint32_t off, const uint8_t* data,
                                   uint32_t n);
// A word of at least 4 bytes: `value` in the first four, the rest 0 if `value` is 0, else erased.
[[nodiscard]] Status flash_program_word(const Flash& flash, uint32_t off, uint32_t value);
// Erases the sector of `bytes` at `off` and checks that it is blank.
[[nodiscard]] Status flash_erase(const Flash& flash, uint32_t off, uint32_t bytes);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_STORAGE_FLASH_MAP_H_
