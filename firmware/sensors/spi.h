// Registers over SPI as the chips here have them: bit 7 of the first byte asks for reading, the
// rest of it is the register, then come its values. Mode 3 (the clock rests high, data is taken at
// its rising edge), highest bit first.
#ifndef KILOTUNE_SENSORS_SPI_H_
#define KILOTUNE_SENSORS_SPI_H_

#include <cstdint>

namespace kilotune {

// At most 1.6 MHz: then the ADXL345's first byte takes the 5 us that it wants between two frames.
struct SpiWire {
  void* context = nullptr;  // handed to the calls below
  void (*select)(void* context, bool on) = nullptr;
  // A byte out and one in; false where that did not work in bounded time.
  bool (*exchange)(void* context, uint8_t out, uint8_t& in) = nullptr;
};

[[nodiscard]] bool spi_read(const SpiWire& wire, uint8_t reg, uint8_t* out, uint32_t n);
[[nodiscard]] bool spi_write(const SpiWire& wire, uint8_t reg, uint8_t value);

}  // namespace kilotune

#endif  // KILOTUNE_SENSORS_SPI_H_
