// Accelerometers as their datasheets describe them, register by register: what the native board
// mounts, and what the drivers are tested against. Written without looking at the drivers; names
// are the datasheets'.
#ifndef KILOTUNE_BOARDS_NATIVE_SENSOR_MODEL_H_
#define KILOTUNE_BOARDS_NATIVE_SENSOR_MODEL_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

namespace kilotune::board {

using MicroG = std::array<int32_t, 3>;  // acceleration, x y z

class SensorModel {
 public:
  explicit SensorModel(MicroG self_test_ug) : self_test_ug_(self_test_ug) {}
  virtual ~SensorModel() = default;
  SensorModel(const SensorModel&) = delete;
  SensorModel& operator=(const SensorModel&) = delete;

  [[nodiscard]] virtual bool answers(uint8_t i2c_address) const = 0;
  // One burst, the same on both buses: the chip increments the register number by its own rules.
  void read(uint8_t reg, uint8_t* out, uint32_t n);
  void write(uint8_t reg, uint8_t value) { write_register(reg, value); }
  // Its supply was gone for a moment: it measures nothing, and all registers are as at power-on.
  virtual void power_on_reset() = 0;
  // The same on SPI: chip select, and bytes in both directions.
  void spi_select(bool on);
  uint8_t spi_exchange(uint8_t in);

  // Output data rate that is set, in mHz; 0: it measures nothing.
  [[nodiscard]] virtual uint32_t rate_mhz() const = 0;
  // One period of that rate is over, and this was the acceleration.
  virtual void measure(MicroG acceleration_ug) = 0;
  [[nodiscard]] virtual bool int1() const = 0;  // level of the pin

  void set_self_test(MicroG push_ug) { self_test_ug_ = push_ug; }

 protected:
  virtual uint8_t read_register(uint8_t reg) = 0;
  virtual void write_register(uint8_t reg, uint8_t value) = 0;
  [[nodiscard]] virtual uint8_t next(uint8_t reg) const { return static_cast<uint8_t>(reg + 1); }

  // Bit of the first byte on SPI without which the chip stays at one register; 0: it never stays.
  [[nodiscard]] virtual uint8_t spi_burst_bit() const { return 0; }

  MicroG self_test_ug_;  // what the chip's own push adds

 private:
  bool selected_ = false, first_ = false, reading_ = false, counting_ = false;
  uint8_t spi_register_ = 0;
};

// A chip by its name, in lower case; null: there is no such model.
std::unique_ptr<SensorModel> make_sensor_model(const std::string& chip);

// Nearest digit, held to `low` and `high`.
int32_t to_digit(int64_t ug, int64_t digits_per_range, int64_t range_ug, int32_t low, int32_t high);

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_NATIVE_SENSOR_MODEL_H_
