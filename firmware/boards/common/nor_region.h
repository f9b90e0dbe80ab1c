// A flash region in plain memory that behaves as NOR flash: programs clear bits, erases set them.
#ifndef KILOTUNE_BOARDS_COMMON_NOR_REGION_H_
#define KILOTUNE_BOARDS_COMMON_NOR_REGION_H_

#include "board_layout.h"
#include "runtime/storage/flash.h"

namespace kilotune::board {

// `region` is where it starts; `kBytes` is a sector's.
template <uint32_t kBytes>
Status nor_erase(void* region, uint32_t off) {
  auto* p = static_cast<volatile uint8_t*>(region) + off;
  for (uint32_t i = 0; i < kBytes; ++i) p[i] = 0xFF;
  return Status::ok;
}

inline Status nor_program(void* region, uint32_t off, const uint8_t* data, uint32_t n) {
  auto* p = static_cast<volatile uint8_t*>(region) + off;
  for (uint32_t i = 0; i < n; ++i) p[i] = static_cast<uint8_t>(p[i] & data[i]);
  return Status::ok;
}

// `base` is the start of the region: a mapped file, or RAM that an emulator keeps in a file.
template <uint32_t kBytes>
Flash nor_region(uint8_t* base, uint32_t sectors) {
  return {base, kBytes, sectors, kWordBytes, base, nor_erase<kBytes>, nor_program};
}

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_COMMON_NOR_REGION_H_
