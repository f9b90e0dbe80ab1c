// Sampling, and the growing unit of entries that wait for their calibration.
#include "runtime/learn/reservoir.h"

#include "kernel/fixed_point.h"
#include "kernel/random.h"

namespace kilotune {
namespace {

constexpr uint16_t kFirstUnit = 2;              // log2 of the first unit in Q10: range +-0.5 log2
constexpr uint16_t kLastUnit = 9;               // 127 << 9 is above any difference of two int16 / 2
constexpr uint32_t kEarlyStream = 0xEA510000u;  // of random numbers, apart from the shares'

// round(v / 2^n), halves to even: always rounded up, entries would drift whenever a unit grows.
int32_t rounding_shift(int32_t v, int n) {
  if (n == 0) return v;
  return (v + (1 << (n - 1)) - 1 + ((v >> n) & 1)) >> n;
}

}  // namespace

void Reservoir::begin(AdapterView* view, uint8_t hold_period, uint8_t hold_count, uint32_t seed) {
  view_ = view;
  hold_period_ = hold_period;
  hold_count_ = hold_count;
  seed_ = seed;
  pending_ = 0;
  count_ = learned_ = held_ = learned_seen_ = held_seen_ = early_ = early_seen_ = 0;
  learn_slots_ = view->capacity() - uint32_t{view->capacity()} * hold_count / hold_period;
  calibrated_ = cautious_ = false;
}

void Reservoir::restore(AdapterView* view, const CalibrationHead& head) {
  view_ = view;
  learned_ = head.learned;
  held_ = head.held;
  learned_seen_ = head.learned_seen;
  held_seen_ = head.held_seen;
  learn_slots_ = head.learn_slots;
  early_ = head.early;
  calibrated_ = true;
  cautious_ = false;
  count_ = 0;
  pending_ = 0;
}

void Reservoir::resume(uint8_t hold_period, uint8_t hold_count, uint32_t seed, bool cautious) {
  hold_period_ = hold_period;
  hold_count_ = hold_count;
  seed_ = seed;
  cautious_ = cautious;
  count_ = later_learned_ = later_held_ = 0;
  if (!cautious) return;
  const auto age = [&](uint32_t slot, uint8_t& later) {
    uint8_t& label = view_->labels()[slot];
    if (label == kFirst) return;
    label = kLater;
    ++later;
  };
  for (uint32_t s = 0; s < learned_; ++s) age(s, later_learned_);
  for (uint32_t s = 0; s < held_; ++s) age(learn_slots_ + s, later_held_);
}

void Reservoir::save(CalibrationHead& head) const {
  head.learned = static_cast<uint16_t>(learned_);
  head.held = static_cast<uint8_t>(held_);
  head.learned_seen = learned_seen_;
  head.held_seen = held_seen_;
  head.learn_slots = static_cast<uint16_t>(learn_slots_);
  head.early = static_cast<uint8_t>(early_);
}

Reservoir::Places Reservoir::offer(uint8_t label) {
  const uint32_t place = count_ % hold_period_;
  return offer_of_record(label, place >= static_cast<uint32_t>(hold_period_ - hold_count_));
}

Reservoir::Places Reservoir::offer_of_record(uint8_t label, bool hold) {
  ++count_;
  const uint32_t slots = hold ? view_->capacity() - learn_slots_ : learn_slots_;
  const uint32_t first = hold ? learn_slots_ : 0;
  Places places = {-1, -1};
  if (slots != 0) {
    uint32_t& seen = hold ? held_seen_ : learned_seen_;
    uint32_t& filled = hold ? held_ : learned_;
    ++seen;
    if (kHasLife && label == kPending) {
      ++pending_;
      pending_held_ = hold;
    }
    const int32_t at = sample(filled, slots, seen, seen * 2 + (hold ? 1 : 0));
    const uint32_t slot = first + static_cast<uint32_t>(at);
    const bool waits = kHasLife && label == kPending;
    if (at >= 0 && (!cautious_ || may_store(slot, hold, slots)) &&
        (!waits || may_wait(slot, first, filled))) {
      places.slot = static_cast<int32_t>(slot);
      if (static_cast<uint32_t>(at) == filled) ++filled;
      view_->labels()[slot] = cautious_ ? kFresh : label;
    }
  }
  if (hold && !calibrated_ && view_->early_capacity() != 0) {
    ++early_seen_;
    const int32_t at =
        sample(early_, view_->early_capacity(), early_seen_, early_seen_ ^ kEarlyStream);
    if (at >= 0) places.early = static_cast<int32_t>(first_early()) + at;
    if (static_cast<uint32_t>(at) == early_) ++early_;
  }
  return places;
}

// A later window takes the place of a later one, or one of the half that later ones may have.
bool Reservoir::may_store(uint32_t slot, bool hold, uint32_t slots) {
  const bool empty = slot == (hold ? learn_slots_ + held_ : learned_);
  if (!empty && view_->labels()[slot] != kFirst) return true;
  uint8_t& later = hold ? later_held_ : later_learned_;
  if (2u * later >= slots) return false;
  ++later;
  return true;
}

// Windows that wait are compared with nothing, so enough of those that are calibrated must stay,
// however long it takes until the next phase can begin.
bool Reservoir::may_wait(uint32_t slot, uint32_t first, uint32_t filled) const {
  if (slot >= first + filled || view_->labels()[slot] >= kWaiting) return true;
  uint32_t calibrated = 0;
  for (uint32_t s = first; s < first + filled; ++s)
    calibrated += view_->labels()[s] < kWaiting ? 1 : 0;
  return calibrated > 2 && 2 * calibrated > filled;
}

// The slot of the `seen`-th window of a share of `slots`, the next empty one if there is any; -1:
// none.
int32_t Reservoir::sample(uint32_t filled, uint32_t slots, uint32_t seen, uint32_t stream) {
  if (filled < slots) return static_cast<int32_t>(filled);
  const uint32_t slot = Random(seed_, stream).below(seen);
  return slot < slots ? static_cast<int32_t>(slot) : -1;
}

void Reservoir::store_raw(uint32_t slot, const int16_t* features_q10) {
  const uint32_t n = view_->features();
  int16_t* anchor = view_->feature_mean();
  uint16_t* unit = view_->feature_scale();
  if (count_ == 1) {
    for (uint32_t i = 0; i < n; ++i) {
      anchor[i] = features_q10[i];
      unit[i] = kFirstUnit;
    }
  }
  int8_t* entry = view_->entry(slot);
  for (uint32_t i = 0; i < n; ++i) {
    const int32_t distance = features_q10[i] - anchor[i];
    widen(i, distance);
    entry[i] = static_cast<int8_t>(clamp(rounding_shift(distance, unit[i]), -127, 127));
  }
}

void Reservoir::widen(uint32_t feature, int32_t distance) {
  uint16_t* unit = view_->feature_scale() + feature;
  int grown = 0;
  while (*unit < kLastUnit && magnitude_bits(distance) > 7 + *unit) {
    ++*unit;
    ++grown;
  }
  if (grown == 0) return;
  const auto rescale = [&](uint32_t slot) {
    int8_t* e = view_->entry(slot) + feature;
    *e = static_cast<int8_t>(rounding_shift(*e, grown));
  };
  for (uint32_t s = 0; s < learned_; ++s) rescale(s);
  for (uint32_t s = 0; s < held_; ++s) rescale(learn_slots_ + s);
  for (uint32_t s = 0; s < early_; ++s) rescale(first_early() + s);
}

int32_t Reservoir::raw(uint32_t slot, uint32_t feature) const {
  return view_->feature_mean()[feature] +
         (view_->entry(slot)[feature] * (1 << view_->feature_scale()[feature]));
}

void Reservoir::drop(uint32_t slot, uint32_t first, uint32_t& filled) {
  const uint32_t last = first + --filled;
  std::memmove(view_->entry(slot), view_->entry(last), view_->features());
  view_->labels()[slot] = view_->labels()[last];
}

// Early windows have no labels.
void Reservoir::drop_early(uint32_t slot) {
  const uint32_t last = first_early() + --early_;
  std::memmove(view_->entry(slot), view_->entry(last), view_->features());
}

void Reservoir::end_record(bool keep, uint32_t first, uint32_t& filled) {
  for (uint32_t s = first + filled; s-- > first;) {
    uint8_t& label = view_->labels()[s];
    if (label != kPending) continue;
    label = kWaiting;
    if (!keep) drop(s, first, filled);
  }
}

void Reservoir::end_record(bool keep) {
  end_record(keep, 0, learned_);
  end_record(keep, learn_slots_, held_);
  if (!keep) (pending_held_ ? held_seen_ : learned_seen_) -= pending_;
  pending_ = 0;
}

void Reservoir::make_room() {
  if (learned_seen_ > learned_) learned_seen_ = learned_;
  if (held_seen_ > held_) held_seen_ = held_;
}

// The share of those that wait among the kept ones estimates their share among all. One window
// stays whatever it is, because a calibrated adapter has some.
void Reservoir::drop_waiting(uint32_t first, uint32_t& filled, uint32_t& seen) {
  const uint32_t before = filled;
  for (uint32_t s = first + filled; s-- > first;) {
    if (view_->labels()[s] >= kWaiting && filled > 1) drop(s, first, filled);
  }
  if (before != 0) seen = static_cast<uint32_t>(uint64_t{seen} * filled / before);
}

void Reservoir::drop_waiting() {
  drop_waiting(0, learned_, learned_seen_);
  drop_waiting(learn_slots_, held_, held_seen_);
  pending_ = 0;
}

void Reservoir::set_calibrated() {
  calibrated_ = true;
  if (!view_->lives()) return;
  for (uint32_t s = 0; s < view_->capacity(); ++s) {
    uint8_t& label = view_->labels()[s];
    if (label >= kWaiting) label = kFirst;
  }
}

}  // namespace kilotune
