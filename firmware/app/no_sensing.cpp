// A firmware without drivers for sensors.
#include "app/sensing.h"

namespace kilotune::sensing {

void describe(Board&) {}
void begin(Engine&, Session&) {}
bool step(bool) { return false; }

}  // namespace kilotune::sensing
