// What the models share.
#include "sensor_model.h"

#include <algorithm>

#include "models.h"

namespace kilotune::board {

void SensorModel::read(uint8_t reg, uint8_t* out, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i, reg = next(reg)) out[i] = read_register(reg);
}

void SensorModel::spi_select(bool on) { selected_ = first_ = on; }

uint8_t SensorModel::spi_exchange(uint8_t in) {
  if (!selected_) return 0xFF;  // not driven: the line is pulled up
  if (first_) {
    first_ = false;
    reading_ = (in & 0x80) != 0;
    counting_ = spi_burst_bit() == 0 || (in & spi_burst_bit()) != 0;
    spi_register_ = static_cast<uint8_t>(in & 0x7F & ~spi_burst_bit());
    return 0xFF;
  }
  uint8_t out = 0xFF;
  if (reading_) {
    out = read_register(spi_register_);
  } else {
    write_register(spi_register_, in);
  }
  if (counting_) spi_register_ = next(spi_register_);
  return out;
}

int32_t to_digit(int64_t ug, int64_t digits_per_range, int64_t range_ug, int32_t low,
                 int32_t high) {
  const int64_t twice = 2 * ug * digits_per_range;
  const int64_t digit = (twice + (ug < 0 ? -range_ug : range_ug)) / (2 * range_ug);
  return static_cast<int32_t>(std::clamp<int64_t>(digit, low, high));
}

std::unique_ptr<SensorModel> make_sensor_model(const std::string& chip) {
  if (chip == "lis2dw12") return lis2dw12_model();
  if (chip == "adxl345") return adxl345_model();
  if (chip == "lsm6dso") return lsm6dso_model();
  return nullptr;
}

}  // namespace kilotune::board
