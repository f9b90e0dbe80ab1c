// Each access asserts chip select once.
#include "sensors/spi.h"

namespace kilotune {
namespace {

constexpr uint8_t kRead = 1 << 7;

bool transfer(const SpiWire& wire, uint8_t* bytes, uint32_t n) {
  wire.select(wire.context, true);
  const bool worked = wire.exchange(wire.context, bytes, n);
  wire.select(wire.context, false);
  return worked;
}

}  // namespace

bool spi_read(const SpiWire& wire, uint8_t reg, uint8_t* out, uint32_t n) {
  uint8_t bytes[kSpiLongest] = {static_cast<uint8_t>(reg | kRead)};
  if (n >= kSpiLongest || !transfer(wire, bytes, n + 1)) return false;
  for (uint32_t i = 0; i < n; ++i) out[i] = bytes[i + 1];
  return true;
}

bool spi_write(const SpiWire& wire, uint8_t reg, uint8_t value) {
  uint8_t bytes[] = {reg, value};
  return transfer(wire, bytes, sizeof bytes);
}

}  // namespace kilotune
