// What a window is to those that are stored: known already, or near which one.
#ifndef KILOTUNE_RUNTIME_LEARN_STORED_H_
#define KILOTUNE_RUNTIME_LEARN_STORED_H_

#include "runtime/learn/adapter_view.h"
#include "runtime/learn/neighbours.h"
#include "runtime/learn/reservoir.h"

namespace kilotune {

struct Among {
  bool first_only;          // without what later phases have stored
  bool early;               // the early windows too
  uint32_t skip = kNoSlot;  // one that does not count
};

struct Nearest {
  uint32_t slot;      // kNoSlot: there is none
  uint32_t distance;  // squared, of model inputs
};

// The window of the calibrated reservoir that is nearest to `x` (features,).
[[nodiscard]] Nearest nearest_stored(const AdapterView& view, const Reservoir& reservoir,
                                     const int8_t* x, const Among& among);

// How far `x` (features,) lies from the nearest window that is stored, early ones included: log2 of
// its squared distance over the mean of that window's own to its nearest two, Q10. About 0 for a
// healthy window that is new; below -7 * 1024 for one that is stored, but for rounding; in between
// for one that shares samples with it.
[[nodiscard]] int32_t newness_q10(const AdapterView& view, const Reservoir& reservoir,
                                  const int8_t* x);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LEARN_STORED_H_
