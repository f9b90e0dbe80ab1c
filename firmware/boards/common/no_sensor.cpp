// For boards without a bus for a sensor.
#include "boards/board.h"

namespace kilotune::board {

const SensorBus* sensor_bus() { return nullptr; }
bool sensor_interrupt() { return false; }

}  // namespace kilotune::board
