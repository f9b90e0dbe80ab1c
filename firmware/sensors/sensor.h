// Accelerometers behind one interface: find, configure, start, read the FIFO, self-test.
//
// A chip is a table of functions over a bus of registers (`SensorDriver`, one file per chip);
// `Sensor` is what they have in common. Nothing here waits for an interrupt: a board may wake up
// for the FIFO watermark on the chip's INT1 (high while the FIFO holds kWatermark frames or more),
// or look into the FIFO from time to time.
//
// Samples are what the window takes: int16, `full_scale_ug` at 32768 counts.
#ifndef KILOTUNE_SENSORS_SENSOR_H_
#define KILOTUNE_SENSORS_SENSOR_H_

#include <cstdint>

#include "kernel/status.h"
#include "schema/terms.h"

namespace kilotune {

constexpr uint32_t kSensorAxes = 3;  // of every chip
constexpr uint32_t kWatermark = 16;  // frames; every FIFO here holds 32 or more

// Registers over I2C or SPI. Calls return false if the bus did not work in bounded time or nothing
// answered.
struct SensorBus {
  void* context = nullptr;  // handed to the calls below
  bool spi = false;
  // `n` registers from `reg` on (1, or 3 to 7), in the chip's own order; on SPI, `reg` includes the
  // bit that the chip needs for that (sensors/spi.h). `address`: 7 bits, for I2C only.
  bool (*read)(void* context, uint8_t address, uint8_t reg, uint8_t* out, uint32_t n) = nullptr;
  bool (*write)(void* context, uint8_t address, uint8_t reg, uint8_t value) = nullptr;
  void (*sleep_ms)(void* context, uint32_t ms) = nullptr;
};

// One chip on its bus, as its driver sees it.
struct SensorPort {
  const SensorBus* bus = nullptr;
  uint8_t address = 0;
  uint8_t mode = 0;   // the driver's own: what `start` switches on
  uint8_t range = 0;  // the driver's own: of which `intact` finds no trace in `mode`
  uint8_t rate = 0;   // the same
  uint8_t gain = 1;   // the driver's own: counts per digit
  uint8_t burst = 0;  // SensorDriver::spi_burst, on SPI

  [[nodiscard]] bool read(uint8_t reg, uint8_t* out, uint32_t n) const {
    const auto first = static_cast<uint8_t>(n > 1 ? reg | burst : reg);
    return bus->read(bus->context, address, first, out, n);
  }
  [[nodiscard]] bool write(uint8_t reg, uint8_t value) const {
    return bus->write(bus->context, address, reg, value);
  }
};

// Whether the register holds `value` in the bits of `mask`.
[[nodiscard]] inline bool holds(const SensorPort& port, uint8_t reg, uint8_t mask, uint8_t value) {
  uint8_t found = 0;
  return port.read(reg, &found, 1) && (found & mask) == value;
}

struct RegisterValue {
  uint8_t reg, value;
};
// False at the first register that could not be written.
template <uint32_t N>
[[nodiscard]] bool write_all(const SensorPort& port, const RegisterValue (&list)[N]) {
  for (const RegisterValue& r : list) {
    if (!port.write(r.reg, r.value)) return false;
  }
  return true;
}

struct SensorRate {
  uint32_t mhz;
  uint8_t code;  // in the chip's register
};
// The entry within 1 % of `mhz`, null: none. The engine accepts 1 % too.
template <uint32_t N>
[[nodiscard]] const SensorRate* find_rate(const SensorRate (&rates)[N], uint32_t mhz) {
  for (const SensorRate& r : rates) {
    const uint32_t off = r.mhz > mhz ? r.mhz - mhz : mhz - r.mhz;
    if (off <= r.mhz / 100) return &r;
  }
  return nullptr;
}

struct FifoFill {
  uint32_t frames = 0;
  bool overrun = false;  // frames were lost since the FIFO was emptied
};

// Self-test as the datasheet has it: at this rate and range, the answer of each axis to the chip's
// own push.
struct SelfTestPlan {
  uint32_t rate_mhz, full_scale_ug, settle_ms;
  int32_t low_ug[kSensorAxes], high_ug[kSensorAxes];
};

struct SensorDriver {
  SensorChip chip;
  uint8_t addresses[2];  // of I2C, by the level of one pin
  uint8_t identity_register, identity;
  uint8_t spi_burst;  // set in a register's number on SPI when several are read
  SelfTestPlan self_test;
  // Stops the chip and sets everything except what `start` does. wrong_rate, wrong_range: the chip
  // does not have it.
  Status (*configure)(SensorPort& port, uint32_t rate_mhz, uint32_t full_scale_ug);
  // Empties the FIFO and samples; also restarts a running chip.
  bool (*start)(const SensorPort& port);
  // Whether a started chip still has the rate and range that were set; false where the bus fails.
  bool (*intact)(const SensorPort& port);
  bool (*fill)(const SensorPort& port, FifoFill& out);
  // Takes one entry out of the FIFO; `taken` false: it was not an acceleration.
  bool (*frame)(const SensorPort& port, int16_t out[kSensorAxes], bool& taken);
  bool (*push)(const SensorPort& port, bool on);  // of the self-test, in its range
};

// Those that this firmware was built with, null at the end; made by the build.
const SensorDriver* const* sensor_drivers();

struct SelfTestResult {
  int32_t moved_ug[kSensorAxes];
  bool passed;
};

class Sensor {
 public:
  // Looks for each chip that the firmware has a driver for, at its addresses, and configures the
  // first that answers. no_sensor: none did; wrong_rate, wrong_range: it lacks what is requested.
  [[nodiscard]] Status open(const SensorBus& bus, uint32_t rate_mhz, uint32_t full_scale_ug);
  [[nodiscard]] SensorChip chip() const {
    return driver_ == nullptr ? SensorChip::none : driver_->chip;
  }

  // Starts sampling from an empty FIFO. sensor_failed: the bus no longer works.
  [[nodiscard]] Status start();
  // Moves up to `max` frames out of the FIFO; `n` says how many. With `lost` there are none: the
  // FIFO had overrun and was emptied, so that the next frames are gap-free again. sensor_failed
  // also where the chip has lost rate or range, as one does that resets itself: looked at before
  // the first frames that follow an empty FIFO, so no others are ever taken for the model's.
  [[nodiscard]] Status read(int16_t (*frames)[kSensorAxes], uint32_t max, uint32_t& n, bool& lost);
  // Takes about 0.6 s and leaves the chip configured and stopped.
  [[nodiscard]] Status self_test(SelfTestResult& out);

 private:
  [[nodiscard]] bool mean_ug(int32_t (&out)[kSensorAxes]) const;

  const SensorDriver* driver_ = nullptr;
  SensorPort port_;
  bool emptying_ = false;  // the last `read` left frames: the next one goes on with the same lot
  uint32_t rate_mhz_ = 0, full_scale_ug_ = 0;
};

}  // namespace kilotune

#endif  // KILOTUNE_SENSORS_SENSOR_H_
