// How the learned windows lie among each other: those unlike all others, weights of the distance.
#include "kernel/fixed_log.h"
#include "runtime/learn/learner.h"
#include "runtime/learn/sorted.h"

namespace kilotune {
namespace {

constexpr int32_t kIsolated = 4 * 1024;  // Q10 log2: 16 times the median squared distance

}  // namespace

Neighbours Learner::neighbours(uint32_t slot) const {
  const Slots others = {0, learned_, slot, counted_ != learned_};
  return nearest_slots(*p_.view, p_.view->entry(slot), others, p_.profile->neighbours);
}

void Learner::measure_isolation() {
  held_residual()[index_] = to_i16(log2_q10(uint64_t{neighbours(index_).mean_distance} + 1));
}

// A learned window far from every other one is a knock or a truck passing, not the machine. A rare
// state of the machine has at least two windows near each other.
void Learner::drop_isolated() {
  int16_t* distance = held_residual();
  if (learned_ >= 8 && config_->resume == 0) {
    int16_t* sorted = held_nearest();
    for (uint32_t i = 0; i < learned_; ++i) insert_sorted(sorted, i, distance[i]);
    const int32_t limit = sorted[learned_ / 2] + kIsolated;
    for (uint32_t s = learned_; s-- > 0;) {
      if (distance[s] <= limit) continue;
      p_.reservoir->drop_learned(s);
      distance[s] = distance[p_.reservoir->learned()];
      ++report_.dropped;
    }
    learned_ = static_cast<uint8_t>(p_.reservoir->learned());
    count_windows();
  }
  std::memset(sums(), 0, 4 * wide_);
  if (looks_apart()) {
    begin_apart();
    go(Stage::apart);
  } else {
    go(Stage::near_weights);
  }
}

// Sum over windows of (k x - sum of the k nearest others)^2: below 255 * (4 * 255 * 2)^2 < 2^31.
void Learner::measure_locality() {
  if (!counts(index_)) return;
  const Neighbours found = neighbours(index_);
  const int8_t* x = p_.view->entry(index_);
  for (uint32_t i = 0; i < p_.view->features(); ++i) {
    int32_t d = static_cast<int32_t>(found.count) * x[i];
    for (uint32_t j = 0; j < found.count; ++j) d -= p_.view->entry(found.slot[j])[i];
    sums()[i] += d * d;
  }
}

// Weight = 1 / variance around the neighbours, shrunk towards its mean over features.
void Learner::set_near_weights() {
  const uint32_t n = p_.view->features();
  const auto variance = [&](uint32_t i) { return static_cast<uint64_t>(sums()[i]); };
  uint64_t total = 0;
  for (uint32_t i = 0; i < n; ++i) total += variance(i);
  // In sums over learned windows: mean variance times pseudo-windows = total / n * pseudo /
  // learned.
  const uint64_t windows = counted_ == 0 ? 1 : counted_;
  const uint64_t prior = total * p_.profile->near_pseudo / (n * windows) + 1;
  uint64_t least = ~0ull;
  for (uint32_t i = 0; i < n; ++i)
    least = variance(i) + prior < least ? variance(i) + prior : least;
  for (uint32_t i = 0; i < n; ++i) {
    p_.view->near_weight()[i] = static_cast<uint16_t>(65535 * least / (variance(i) + prior));
  }
  go(Stage::residuals);
}

}  // namespace kilotune
