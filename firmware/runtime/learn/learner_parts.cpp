// Whether later windows have moved away from the first ones in a part of the spectrum.
//
// Every stored window is compared with the first window that is nearest to it, band by band. Among
// healthy windows these differences cancel out over windows, whatever state the machine is in: what
// does not cancel has moved. A fault in a few bands is little in a distance over all bands, and
// much in these.
#include "runtime/learn/learner.h"
#include "runtime/learn/stored.h"

namespace kilotune {
namespace {

constexpr uint32_t kBands = 6;  // the ones that moved most
// The limit of their mean square of (mean difference / spread among the first windows).
constexpr uint32_t kLimit_q10 = 2560;

}  // namespace

bool Learner::is_later(uint32_t slot) const {
  return slot < p_.view->capacity() && p_.view->labels()[slot] != kFirst;
}

void Learner::measure_parts() {
  const uint32_t n = p_.view->features();
  if (index_ == 0) {
    std::memset(sums(), 0, 4 * n);
    std::memset(squares(), 0, 8 * n);
    tally().later = tally().first = 0;
  }
  const uint32_t slot = slot_of(index_);
  const bool later = is_later(slot);
  const int8_t* x = p_.view->entry(slot);
  // An early window may be stored as a held-back one too, and would be at distance 0 of that.
  const Nearest nearest = nearest_stored(*p_.view, *p_.reservoir, x, {true, later, slot});
  if (nearest.slot == kNoSlot) return;
  const int8_t* other = p_.view->entry(nearest.slot);
  ++(later ? tally().later : tally().first);
  for (uint32_t i = 0; i < n; ++i) {
    const int32_t d = x[i] - other[i];
    if (later) {
      sums()[i] += d;
    } else {
      squares()[i] += static_cast<uint32_t>(d * d);
    }
  }
}

// As GuardReport::shift. |sums| < 2^16, squares < 2^24, and at most 2^8 windows of either kind.
int32_t Learner::parts_q10() const {
  const uint32_t n = p_.view->features(), later = tally().later, first = tally().first;
  if (later == 0 || first == 0) return 0;
  uint64_t total = 0;
  for (uint32_t i = 0; i < n; ++i) total += squares()[i];
  const uint64_t mean = total / n + 1;
  uint32_t most[kBands] = {};  // descending
  for (uint32_t i = 0; i < n; ++i) {
    // Few windows say little about the spread in a band: two fifths are the mean over all bands.
    const uint64_t spread = (3 * squares()[i] + 2 * mean) / 5 + 1;
    const uint64_t square = static_cast<uint64_t>(int64_t{sums()[i]} * sums()[i]);  // below 2^32
    uint32_t moved = static_cast<uint32_t>(
        clamp<uint64_t>(square * first * 1024 / (spread * later * later), 0, 1u << 20));
    for (uint32_t& place : most) {
      const uint32_t smaller = moved < place ? moved : place;
      place = moved < place ? place : moved;
      moved = smaller;
    }
  }
  uint32_t sum = 0;
  for (const uint32_t moved : most) sum += moved;
  const uint32_t bands = n < kBands ? n : kBands;
  // Chance is in the mean of few windows: for `later` of them the limit is 1 + 4 / later times as
  // high. 512 is the limit.
  return static_cast<int32_t>(uint64_t{sum / bands} * 512 * later / (kLimit_q10 * (later + 4)));
}

}  // namespace kilotune
