// Compares a window with every stored one.
#include "runtime/learn/repeats.h"

#include "runtime/learn/neighbours.h"

namespace kilotune {
namespace {

constexpr uint32_t kRepeatShare = 16;

}  // namespace

bool is_stored(const AdapterView& view, const Reservoir& reservoir, const int8_t* x) {
  const Slots shares[] = {{0, reservoir.learned()},
                          {reservoir.first_held(), reservoir.held()},
                          {reservoir.first_early(), reservoir.early()}};
  uint32_t slot = kNoSlot, distance = 0;
  for (const Slots& share : shares) {
    const Neighbours nearest = nearest_slots(view, x, share, 1);
    if (nearest.count == 0 || (slot != kNoSlot && nearest.mean_distance >= distance)) continue;
    slot = nearest.slot[0];
    distance = nearest.mean_distance;
  }
  if (slot == kNoSlot) return false;
  const Slots others = {0, reservoir.learned(), slot};
  return uint64_t{distance} * kRepeatShare <=
         nearest_slots(view, view.entry(slot), others, 2).mean_distance;
}

}  // namespace kilotune
