// The chips that have models.
#ifndef KILOTUNE_BOARDS_NATIVE_SENSORS_MODELS_H_
#define KILOTUNE_BOARDS_NATIVE_SENSORS_MODELS_H_

#include "sensor_model.h"

namespace kilotune::board {

std::unique_ptr<SensorModel> lis2dw12_model();
std::unique_ptr<SensorModel> adxl345_model();
std::unique_ptr<SensorModel> lsm6dso_model();

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_NATIVE_SENSORS_MODELS_H_
