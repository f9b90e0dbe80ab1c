// CRC-32 with a table of 16 entries: 64 bytes of flash, two look-ups per byte.
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
  crc = ~crc;
  for (uint32_t i = 0; i < n; ++i) {
    crc ^= data[i];
    crc = (crc >> 4) ^ kTable.entry[crc & 15u];
    crc = (crc >> 4) ^ kTable.entry[crc & 15u];
  }
  return ~crc;
}

}  // namespace kilotune
