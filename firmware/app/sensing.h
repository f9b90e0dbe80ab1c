// The device alone: samples of the sensor go through the engine, which learns, commits and detects
// by itself. A host may come and go; while it uses the engine, the sensor waits. A firmware without
// drivers has no_sensing.cpp in place of sensing.cpp.
#ifndef KILOTUNE_APP_SENSING_H_
#define KILOTUNE_APP_SENSING_H_

#include "runtime/engine/engine.h"
#include "runtime/link/session.h"

namespace kilotune::sensing {

// Fills in the session's sensor calls. Before the session is made.
void describe(Board& callbacks);
// Looks for the sensor. Both arguments must stay.
void begin(Engine& engine, Session& session);
// The engine has another model.
void begin_again();
// Whether the sensor, where one answers, has this rate, range and axes.
[[nodiscard]] Status check(const FeatureConfig& features);
// What the light tells: the sensor has failed; what was learned alone is not in flash.
[[nodiscard]] bool blind();
[[nodiscard]] bool unkept();
// Does one piece of work; false: there was none. `learn`: learn anew, whatever was learned before.
bool step(bool learn);

}  // namespace kilotune::sensing

#endif  // KILOTUNE_APP_SENSING_H_
