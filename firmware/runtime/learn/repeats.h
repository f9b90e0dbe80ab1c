// Windows that are stored already: learned again, they would vouch for themselves.
#ifndef KILOTUNE_RUNTIME_LEARN_REPEATS_H_
#define KILOTUNE_RUNTIME_LEARN_REPEATS_H_

#include "runtime/learn/adapter_view.h"
#include "runtime/learn/reservoir.h"

namespace kilotune {

// True where `x` (features,) is a window of the calibrated reservoir or an early window, up to the
// rounding of how that was stored: its squared distance is at most 1/16 of that between this window
// and its own two nearest. (Of two windows of one machine it is about 1/1; at least 1/4 on the
// recordings of docs/LEARNING.md.)
[[nodiscard]] bool is_stored(const AdapterView& view, const Reservoir& reservoir, const int8_t* x);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LEARN_REPEATS_H_
