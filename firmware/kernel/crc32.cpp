// CRC-32 with a table of 16 entries: 64 bytes of flash, two look-ups per byte, a
// word at a time where words can be loaded from anywhere.
#include "kernel/bytes.h"

namespace kilotune {
namespace {
constexpr uint32_t kPolynomial = 0xEDB88320u;  // IEEE 802.3, reflected

struct Table {
  uint32_t entry[16];
};
constexpr Table make_table() {
  Table t{};
  for (uint32_t i = 0; i < 16; ++i) {
    uint32_t c = i;
    for (int k = 0; k < 4; ++k) c = (c >> 1) ^ ((c & 1u) ? kPolynomial : 0u);
    t.entry[i] = c;
  }
  return t;
}
constexpr Table kTable = make_table();
}  // namespace

uint32_t crc32(const uint8_t* data, uint32_t n, uint32_t crc) {
  const auto look_up = [&crc]() __attribute__((always_inline)) {
    crc = (crc >> 4) ^ kTable.entry[crc & 15u];
  };
  crc = ~crc;
#if !defined(__OPTIMIZE_SIZE__) && !defined(__ARM_ARCH_6M__)
  for (; n >= 4; n -= 4, data += 4) {  // a word's nibbles come in the same order
    crc ^= load_u32(data);
    look_up();
    look_up();
    look_up();
    look_up();
    look_up();
    look_up();
    look_up();
    look_up();
  }
#endif
  for (; n != 0; --n) {
    crc ^= *data++;
    look_up();
    look_up();
  }
  return ~crc;
}

}  // namespace kilotune
