// Insertion into a list of at most four.
#include "runtime/learn/neighbours.h"

#include "runtime/learn/reservoir.h"

namespace kilotune {

Neighbours nearest_slots(const AdapterView& view, const int8_t* x, const Slots& among, uint32_t k) {
  const uint32_t n = view.features();
  Neighbours found = {};
  uint32_t best[kMostNeighbours];
  for (uint32_t s = among.first; s < among.first + among.count; ++s) {
    if (s == among.skip || (among.first_only && view.labels()[s] != kFirst)) continue;
    const int8_t* e = view.entry(s);
    uint32_t distance = 0;
    for (uint32_t i = 0; i < n; ++i) {
      const int32_t d = x[i] - e[i];
      distance += static_cast<uint32_t>(d * d);
    }
    uint32_t at = found.count;
    while (at > 0 && best[at - 1] > distance) --at;
    if (at >= k) continue;
    if (found.count < k) ++found.count;
    for (uint32_t j = found.count - 1; j > at; --j) {
      best[j] = best[j - 1];
      found.slot[j] = found.slot[j - 1];
    }
    best[at] = distance;
    found.slot[at] = s;
  }
  uint64_t sum = 0;
  for (uint32_t j = 0; j < found.count; ++j) sum += best[j];
  if (found.count != 0) found.mean_distance = static_cast<uint32_t>(sum / found.count);
  return found;
}

}  // namespace kilotune
