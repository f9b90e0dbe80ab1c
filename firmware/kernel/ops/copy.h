// Copies and clears a few dozen bytes, by words: the small C libraries of microcontrollers go byte
// by byte.
#ifndef KILOTUNE_KERNEL_OPS_COPY_H_
#define KILOTUNE_KERNEL_OPS_COPY_H_

#include <cstdint>
#include <cstring>

namespace kilotune {

// Keeps the compiler from turning a loop into a call of memcpy or memset again.
inline void keep_loop() { __asm__ volatile("" ::: "memory"); }

inline void copy_bytes(void* to, const void* from, uint32_t n) {
  uint8_t* t = static_cast<uint8_t*>(to);
  const uint8_t* f = static_cast<const uint8_t*>(from);
  for (; n >= 8; n -= 8, t += 8, f += 8) {
    uint32_t a = 0, b = 0;
    std::memcpy(&a, f, sizeof a);
    std::memcpy(&b, f + 4, sizeof b);
    std::memcpy(t, &a, sizeof a);
    std::memcpy(t + 4, &b, sizeof b);
    keep_loop();
  }
  for (; n != 0; --n) {
    *t++ = *f++;
    keep_loop();
  }
}

inline void fill_bytes(void* to, int8_t value, uint32_t n) {
  uint8_t* t = static_cast<uint8_t*>(to);
  const uint32_t four = static_cast<uint8_t>(value) * 0x01010101u;
  for (; n >= 4; n -= 4, t += 4) {
    std::memcpy(t, &four, sizeof four);
    keep_loop();
  }
  for (; n != 0; --n) *t++ = static_cast<uint8_t>(value);
}

inline void clear_words(int32_t* words, uint32_t n) {
  for (; n >= 4; n -= 4, words += 4) {
    words[0] = words[1] = words[2] = words[3] = 0;
    keep_loop();
  }
  for (; n != 0; --n) {
    *words++ = 0;
    keep_loop();
  }
}

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_COPY_H_
