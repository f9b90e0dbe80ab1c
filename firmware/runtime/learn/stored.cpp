// One search over the shares of the reservoir and the early windows.
#include "runtime/learn/stored.h"

#include "kernel/fixed_log.h"

namespace kilotune {

Nearest nearest_stored(const AdapterView& view, const Reservoir& reservoir, const int8_t* x,
                       const Among& among) {
  const Slots shares[] = {
      {0, reservoir.learned(), among.skip, among.first_only},
      {reservoir.first_held(), reservoir.held(), among.skip, among.first_only},
      {reservoir.first_early(), among.early ? reservoir.early() : 0, among.skip},
  };
  Nearest nearest = {kNoSlot, 0};
  for (const Slots& share : shares) {
    const Neighbours found = nearest_slots(view, x, share, 1);
    if (found.count == 0) continue;
    if (nearest.slot != kNoSlot && found.mean_distance >= nearest.distance) continue;
    nearest = {found.slot[0], found.mean_distance};
  }
  return nearest;
}

int32_t newness_q10(const AdapterView& view, const Reservoir& reservoir, const int8_t* x) {
  const Nearest nearest = nearest_stored(view, reservoir, x, {false, true});
  if (nearest.slot == kNoSlot) return 0;
  const Slots others = {0, reservoir.learned(), nearest.slot};
  const Neighbours own = nearest_slots(view, view.entry(nearest.slot), others, 2);
  return log2_q10(uint64_t{nearest.distance} + 1) - log2_q10(uint64_t{own.mean_distance} + 1);
}

}  // namespace kilotune
