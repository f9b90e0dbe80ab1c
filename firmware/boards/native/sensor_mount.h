// A register-level sensor on the native board: its bus, its interrupt pin, the recording that it
// measures, and the clock that drives all of them.
#ifndef KILOTUNE_BOARDS_NATIVE_SENSOR_MOUNT_H_
#define KILOTUNE_BOARDS_NATIVE_SENSOR_MOUNT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "options.h"
#include "sensors/sensor.h"
#include "sensors/sensor_model.h"
#include "sensors/spi.h"

namespace kilotune::board {

class SensorMount {
 public:
  // Ends the process with a message where the recording cannot be read.
  void open(const Options& options);

  [[nodiscard]] const SensorBus* bus() { return model_ == nullptr ? nullptr : &bus_; }
  [[nodiscard]] bool interrupt();
  // Microseconds since the start: of the computer's clock, or of a virtual one that runs while the
  // device waits or sleeps, until the recording ends.
  [[nodiscard]] uint64_t now_us() const;
  // A wait for an interrupt: how long the caller may sleep, in ms; -1: for ever.
  [[nodiscard]] int idle_ms();

 private:
  static bool read_on_i2c(void* self, uint8_t address, uint8_t reg, uint8_t* out, uint32_t n);
  static bool write_on_i2c(void* self, uint8_t address, uint8_t reg, uint8_t value);
  static bool read_on_spi(void* self, uint8_t address, uint8_t reg, uint8_t* out, uint32_t n);
  static bool write_on_spi(void* self, uint8_t address, uint8_t reg, uint8_t value);
  [[nodiscard]] SpiWire wire();
  void load(const std::string& file);
  void catch_up();
  void advance_us(uint64_t us);
  void upset();
  [[nodiscard]] bool is_virtual() const { return virtual_ && next_ < recording_.size(); }

  std::unique_ptr<SensorModel> model_;
  SensorBus bus_;
  std::vector<MicroG> recording_;
  size_t next_ = 0;           // frame of the recording
  uint64_t measured_us_ = 0;  // until when the model has measured
  uint64_t phase_ = 0;        // since its last frame, in 1e-9 frames
  Upset upset_;
  bool virtual_ = false;
  uint64_t virtual_us_ = 0;
};

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_NATIVE_SENSOR_MOUNT_H_
