// Little-endian loads and stores on byte buffers: the only way that stored bytes become numbers.
#ifndef KILOTUNE_KERNEL_BYTES_H_
#define KILOTUNE_KERNEL_BYTES_H_

#include <cstdint>
#include <cstring>

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

// A bounds-checked view of untrusted bytes.
struct Bytes {
  const uint8_t* data = nullptr;
  uint32_t size = 0;

  // True when `count` items of `item` bytes lie inside, at a multiple of `align`, without overflow.
  [[nodiscard]] bool holds(uint32_t off, uint32_t count, uint32_t item, uint32_t align = 1) const {
    if (off % align != 0 || off > size) return false;
    return item == 0 || count <= (size - off) / item;
  }
};

// CRC-32 (IEEE 802.3, reflected, as zlib). Chain calls by passing the previous result.
uint32_t crc32(const uint8_t* data, uint32_t n, uint32_t crc = 0);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_BYTES_H_
