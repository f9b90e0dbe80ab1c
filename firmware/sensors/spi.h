// Registers over SPI as the chips here have them: bit 7 of the first byte means reading, the rest
// of that byte is the register, then come its values. Mode 3 (the clock idles high, data is sampled
// at its rising edge), highest bit first.
#ifndef KILOTUNE_SENSORS_SPI_H_
#define KILOTUNE_SENSORS_SPI_H_

#include <cstdint>

#include "sensors/sensor.h"

namespace kilotune {

constexpr uint32_t kSpiLongest = 8;  // bytes: the register, and what a SensorBus reads at most

// At most 1.6 MHz: then the ADXL345's first byte takes the 5 us that it needs between two frames.
struct SpiWire {
  void* context = nullptr;  // handed to the calls below
  void (*select)(void* context, bool on) = nullptr;
  // Sends `n` bytes, 2 to kSpiLongest, and replaces each by the one received meanwhile; false if
  // that did not work in bounded time.
  bool (*exchange)(void* context, uint8_t* bytes, uint32_t n) = nullptr;
};

[[nodiscard]] bool spi_read(const SpiWire& wire, uint8_t reg, uint8_t* out, uint32_t n);
[[nodiscard]] bool spi_write(const SpiWire& wire, uint8_t reg, uint8_t value);

// The bus over a board's one wire.
template <const SpiWire& wire>
constexpr SensorBus spi_bus(void (*sleep_ms)(void* context, uint32_t ms)) {
  return {nullptr, true,
          [](void*, uint8_t, uint8_t reg, uint8_t* out, uint32_t n) {
            return spi_read(wire, reg, out, n);
          },
          [](void*, uint8_t, uint8_t reg, uint8_t value) { return spi_write(wire, reg, value); },
          sleep_ms};
}

}  // namespace kilotune

#endif  // KILOTUNE_SENSORS_SPI_H_
