// A firmware without drivers for sensors.
#include "app/sensing.h"

namespace kilotune::sensing {

void describe(Board&) {}
void begin(Engine&, Session&) {}
void begin_again() {}
Status check(const FeatureConfig&) { return Status::ok; }
bool blind() { return false; }
bool unkept() { return false; }
bool step(bool) { return false; }

}  // namespace kilotune::sensing
