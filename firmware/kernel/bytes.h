// Little-endian loads and stores on byte buffers: the only way that stored bytes become numbers.
#ifndef KILOTUNE_KERNEL_BYTES_H_
#define KILOTUNE_KERNEL_BYTES_H_

#include <cstdint>
#include <cstring>

#include "kernel/status.h"

namespace kilotune {

// Unchecked loads, for fields that were validated before. Every supported core is little-endian.
inline uint16_t load_u16(const uint8_t* p) {
  uint16_t v = 0;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline int16_t load_i16(const uint8_t* p) { return static_cast<int16_t>(load_u16(p)); }
inline uint32_t load_u32(const uint8_t* p) {
  uint32_t v = 0;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline int32_t load_i32(const uint8_t* p) { return static_cast<int32_t>(load_u32(p)); }

// The same for an address that is known to be a multiple of 4 (sections of an image, the arena).
inline const uint8_t* aligned4(const uint8_t* p) {
  return static_cast<const uint8_t*>(__builtin_assume_aligned(p, 4));
}

inline void store_u16(uint8_t* p, uint16_t v) { std::memcpy(p, &v, sizeof v); }
inline void store_u32(uint8_t* p, uint32_t v) { std::memcpy(p, &v, sizeof v); }

// True when `n` bytes at `off` lie within `size`, without overflow.
inline bool spans(uint32_t size, uint32_t off, uint32_t n) {
  return off <= size && n <= size - off;
}
// True when `count` items of `item` > 0 bytes do, at a multiple of 4. Once per program: an image is
// full of such places.
[[gnu::noinline]] inline bool holds(uint32_t size, uint32_t off, uint32_t count, uint32_t item) {
  return off % 4 == 0 && off <= size && count <= (size - off) / item;
}

// A bounds-checked view of untrusted bytes.
struct Bytes {
  const uint8_t* data = nullptr;
  uint32_t size = 0;

  [[nodiscard]] bool holds(uint32_t off, uint32_t count, uint32_t item) const {
    return kilotune::holds(size, off, count, item);
  }
};

// Whether words may be loaded from there: M0 faults on others, and so do M3 and M4 on pairs of
// words.
inline bool is_aligned4(const void* p) { return (reinterpret_cast<uintptr_t>(p) & 3u) == 0; }

// RAM that the caller gives, at a multiple of 4, with its length: an array knows its own. {}: none.
struct Memory {
  uint8_t* data = nullptr;
  uint32_t size = 0;

  Memory() = default;
  Memory(uint8_t* bytes, uint32_t n) : data(bytes), size(n) {}
  template <std::size_t N>
  Memory(uint8_t (&array)[N]) : data(array), size(N) {}  // NOLINT(google-explicit-constructor)

  // Whether `bytes` fit in: no_memory, or bad_argument for a place that nothing can be written to.
  [[nodiscard, gnu::noinline]] Status holds(uint32_t bytes) const {
    if (size < bytes) return Status::no_memory;
    const bool good = bytes == 0 || (data != nullptr && is_aligned4(data));
    return good ? Status::ok : Status::bad_argument;
  }
};

// CRC-32 (IEEE 802.3, reflected, as zlib). Chain calls by passing the previous result.
uint32_t crc32(const uint8_t* data, uint32_t n, uint32_t crc = 0);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_BYTES_H_
