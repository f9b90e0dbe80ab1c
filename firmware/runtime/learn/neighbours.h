// Which stored windows are nearest to one, by plain squared distance of model inputs.
#ifndef KILOTUNE_RUNTIME_LEARN_NEIGHBOURS_H_
#define KILOTUNE_RUNTIME_LEARN_NEIGHBOURS_H_

#include <cstdint>

#include "runtime/learn/adapter_view.h"

namespace kilotune {

constexpr uint32_t kMostNeighbours = 4;
constexpr uint32_t kNoSlot = 0xFFFFFFFFu;

struct Slots {
  uint32_t first, count;
  uint32_t skip = kNoSlot;  // one that does not count: a window is at distance 0 of itself
  bool first_only = false;  // of the reservoir: without what later phases have stored
};

struct Neighbours {
  uint32_t count;  // at most k
  uint32_t slot[kMostNeighbours];
  uint32_t mean_distance;  // below 2^16 * features
};

// The `k` nearest of `among`, nearest first; k <= kMostNeighbours. x: (features,).
[[nodiscard]] Neighbours nearest_slots(const AdapterView& view, const int8_t* x, const Slots& among,
                                       uint32_t k);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LEARN_NEIGHBOURS_H_
