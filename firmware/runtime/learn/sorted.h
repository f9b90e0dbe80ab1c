// Few values in order.
#ifndef KILOTUNE_RUNTIME_LEARN_SORTED_H_
#define KILOTUNE_RUNTIME_LEARN_SORTED_H_

#include <cstdint>

namespace kilotune {

// `v` (n,) ascending, with room for one more. n is below 2^8.
inline void insert_sorted(int16_t* v, uint32_t n, int16_t value) {
  uint32_t at = n;
  for (; at > 0 && v[at - 1] > value; --at) v[at] = v[at - 1];
  v[at] = value;
}

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LEARN_SORTED_H_
