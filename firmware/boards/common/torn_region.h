// Flash whose power fails: for tests of a board whose flash is a file, only in builds with
// -DKILOTUNE_TORN_FLASH=ON.
//
// The last 8 bytes of flash are a fuse that the test sets through that file: u32 words
// left to program or erase (0: for ever), u32 seed. The word at which it burns down is left with a
// mix of old and new bits, and the board restarts.
#ifndef KILOTUNE_BOARDS_COMMON_TORN_REGION_H_
#define KILOTUNE_BOARDS_COMMON_TORN_REGION_H_

#include "boards/board.h"
#include "boards/common/nor_region.h"

namespace kilotune::board {

volatile uint32_t* torn_fuse();  // provided by the board

// Writes a word. If the fuse burns down at it, writes only some of its bits and does not return.
inline void write_torn(volatile uint8_t* to, const uint8_t* word) {
  volatile uint32_t* fuse = torn_fuse();
  const bool burns = fuse[0] == 1;
  if (fuse[0] != 0) fuse[0] = fuse[0] - 1;
  uint32_t random = fuse[1] * 2654435769u + 1;
  for (uint32_t i = 0; i < kWordBytes; ++i) {
    random = random * 1664525u + 1013904223u;
    const uint32_t taken = burns ? random >> 24 : 0xFF;  // bits that reach their new value
    to[i] = static_cast<uint8_t>((to[i] & ~taken) | (word[i] & taken));
  }
  if (burns) reset();
}

// As nor_region.
template <uint32_t kBytes>
Flash torn_region(uint8_t* base, uint32_t sectors) {
  const auto erase = [](void* context, uint32_t off) {
    auto* p = static_cast<volatile uint8_t*>(context) + off;
    uint8_t blank[kWordBytes];
    for (uint8_t& byte : blank) byte = 0xFF;
    for (uint32_t i = 0; i < kBytes; i += kWordBytes) write_torn(p + i, blank);
    return Status::ok;
  };
  const auto program = [](void* context, uint32_t off, const uint8_t* data, uint32_t n) {
    auto* p = static_cast<volatile uint8_t*>(context) + off;
    for (uint32_t at = 0; at < n; at += kWordBytes) {
      uint8_t word[kWordBytes];
      for (uint32_t i = 0; i < kWordBytes; ++i)
        word[i] = static_cast<uint8_t>(p[at + i] & data[at + i]);
      write_torn(p + at, word);
    }
    return Status::ok;
  };
  return {base, kBytes, sectors, kWordBytes, base, erase, program};
}

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_COMMON_TORN_REGION_H_
