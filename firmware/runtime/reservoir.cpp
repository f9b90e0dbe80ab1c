// Sampling, and the growing unit of entries that wait for their calibration.
#include "runtime/reservoir.h"

#include "kernel/fixed_point.h"
#include "kernel/random.h"

namespace kilotune {
namespace {

constexpr uint16_t kFirstUnit = 2;  // log2 of the first unit in Q10: range +-0.5 log2
constexpr uint16_t kLastUnit = 9;   // 127 << 9 is above any difference of two int16 / 2

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
  count_ = learned_ = held_ = learned_seen_ = held_seen_ = 0;
  learn_slots_ = view->capacity() - uint32_t{view->capacity()} * hold_count / hold_period;
  calibrated_ = false;
}

void Reservoir::restore(AdapterView* view, const CalibrationHead& head) {
  view_ = view;
  learned_ = head.learned;
  held_ = head.held;
  learned_seen_ = head.learned_seen;
  held_seen_ = head.held_seen;
  learn_slots_ = head.learn_slots;
  calibrated_ = true;
  count_ = 0;
}

void Reservoir::resume(uint8_t hold_period, uint8_t hold_count, uint32_t seed) {
  hold_period_ = hold_period;
  hold_count_ = hold_count;
  seed_ = seed;
  count_ = 0;
}

void Reservoir::save(CalibrationHead& head) const {
  head.learned = static_cast<uint16_t>(learned_);
  head.held = static_cast<uint8_t>(held_);
  head.learned_seen = learned_seen_;
  head.held_seen = held_seen_;
  head.learn_slots = static_cast<uint16_t>(learn_slots_);
}

int32_t Reservoir::offer(uint8_t label) {
  const uint32_t place = count_++ % hold_period_;
  const bool hold = place >= static_cast<uint32_t>(hold_period_ - hold_count_);
  const uint32_t slots = hold ? view_->capacity() - learn_slots_ : learn_slots_;
  const uint32_t first = hold ? learn_slots_ : 0;
  uint32_t& filled = hold ? held_ : learned_;
  uint32_t& seen = hold ? held_seen_ : learned_seen_;
  if (slots == 0) return -1;
  ++seen;
  uint32_t slot = filled;
  if (filled < slots) {
    ++filled;
  } else {
    slot = Random(seed_, seen * 2 + (hold ? 1 : 0)).below(seen);
    if (slot >= slots) return -1;
  }
  view_->labels()[first + slot] = label;
  return static_cast<int32_t>(first + slot);
}

void Reservoir::store_raw(uint32_t slot, const int16_t* features_q10) {
  const uint32_t n = view_->features();
  int16_t* anchor = view_->feature_mean();
  uint16_t* unit = view_->feature_scale();
  if (learned_ + held_ == 1) {
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
}

int32_t Reservoir::raw(uint32_t slot, uint32_t feature) const {
  return view_->feature_mean()[feature] +
         (view_->entry(slot)[feature] * (1 << view_->feature_scale()[feature]));
}

void Reservoir::drop_learned(uint32_t slot) {
  --learned_;
  std::memmove(view_->entry(slot), view_->entry(learned_), view_->features());
  view_->labels()[slot] = view_->labels()[learned_];
}

}  // namespace kilotune
