// All drivers; sensor_drivers() lists those of this firmware.
#ifndef KILOTUNE_SENSORS_DRIVERS_H_
#define KILOTUNE_SENSORS_DRIVERS_H_

#include "sensors/sensor.h"

namespace kilotune {

extern const SensorDriver kLis2dw12, kAdxl345, kLsm6dso;

// A frame as ST and Analog Devices send it: x, y, z, low byte first.
inline int16_t axis_of(const uint8_t* bytes, uint32_t axis) {
  return static_cast<int16_t>(bytes[2 * axis] | bytes[2 * axis + 1] << 8);
}

// 0 to 3 for 2, 4, 8 and 16 g, which all three chips have; kNoRange otherwise.
constexpr uint32_t kNoRange = 4;
inline uint32_t find_range(uint32_t full_scale_ug) {
  uint32_t range = 0;
  while (range < kNoRange && full_scale_ug != 2000000u << range) ++range;
  return range;
}

}  // namespace kilotune

#endif  // KILOTUNE_SENSORS_DRIVERS_H_
