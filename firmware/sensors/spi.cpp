// A register is one stretch of chip select.
#include "sensors/spi.h"

namespace kilotune {
namespace {

constexpr uint8_t kRead = 1 << 7;

}  // namespace

bool spi_read(const SpiWire& wire, uint8_t reg, uint8_t* out, uint32_t n) {
  uint8_t nothing = 0;
  wire.select(wire.context, true);
  bool worked = wire.exchange(wire.context, static_cast<uint8_t>(reg | kRead), nothing);
  for (uint32_t i = 0; worked && i < n; ++i) worked = wire.exchange(wire.context, 0, out[i]);
  wire.select(wire.context, false);
  return worked;
}

bool spi_write(const SpiWire& wire, uint8_t reg, uint8_t value) {
  uint8_t nothing = 0;
  wire.select(wire.context, true);
  const bool worked =
      wire.exchange(wire.context, reg, nothing) && wire.exchange(wire.context, value, nothing);
  wire.select(wire.context, false);
  return worked;
}

}  // namespace kilotune
