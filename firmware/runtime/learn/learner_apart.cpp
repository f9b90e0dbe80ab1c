// Windows of a first phase that lie apart from the rest: a fault that was there already, or a
// second state of the machine. The stored windows are laid along the direction in which they differ
// most (power iteration), and cut in two where that leaves the least spread (2-means in one
// dimension).
#include <cstring>

#include "kernel/fixed_point.h"
#include "runtime/learn/learner.h"
#include "runtime/learn/sorted.h"

namespace kilotune {
namespace {

constexpr uint32_t kRounds = 12;  // of power iteration; the first one finds the farthest window
// Six spreads within a group lie between the means of two, squared. Some healthy phases of one
// state reach five (docs/LEARNING.md).
constexpr uint64_t kApartSquared = 36;
constexpr uint32_t kLeastWindows = 8, kLeastApart = 2;
constexpr uint32_t kMostPercent = 40;  // more are not left out: who can tell which part is healthy?
constexpr int32_t kDirectionBits = 12, kAlongBits = 14;

// Bits by which a projection (n products of 8 + 1 and 12 bits) exceeds kAlongBits.
int excess_of(uint32_t n) {
  return 9 + kDirectionBits + magnitude_bits(static_cast<int32_t>(n)) - kAlongBits;
}

// Windows of the lower group, 0: they are one group. `along` (n,) ascending, |along| < 2^14, n <
// 2^8.
uint32_t lower_group(const int16_t* along, uint32_t n) {
  int64_t total = 0, squares = 0;
  for (uint32_t i = 0; i < n; ++i) {
    total += along[i];
    squares += int32_t{along[i]} * along[i];
  }
  uint64_t best = 0;  // n times the squares between both groups
  int64_t sum = 0;
  uint32_t low = 0;
  for (uint32_t k = 1; k < n; ++k) {
    sum += along[k - 1];
    const int64_t d = sum * n - total * k;  // below 2^30
    const uint64_t between = static_cast<uint64_t>(d * d) / (uint64_t{k} * (n - k));
    if (between <= best) continue;
    best = between;
    low = k;
  }
  // (gap / pooled spread)^2 = between * n / (k (n - k)) * (n - 2) / within, all below 2^56.
  const uint64_t whole = static_cast<uint64_t>(squares * n - total * total);
  const uint64_t within = whole > best ? whole - best : 0;  // n times
  const uint64_t pairs = uint64_t{low} * (n - low);
  const bool apart = low != 0 && best * n * (n - 2) > kApartSquared * within * pairs;
  return apart ? low : 0;
}

}  // namespace

bool Learner::looks_apart() const {
  const bool wanted = config_->apart != Apart::ignore && config_->resume == 0;
  return kHasLife && wanted && report_.apart == 0 && learned_ + held_ >= kLeastWindows;
}

void Learner::begin_apart() {
  const uint32_t n = p_.view->features(), count = learned_ + held_;
  int16_t* mean = apart_mean();
  for (uint32_t i = 0; i < n; ++i) {
    int32_t sum = 0;
    for (uint32_t w = 0; w < count; ++w) sum += p_.view->entry(slot_of(w))[i];
    const int32_t half = static_cast<int32_t>(count) / (sum < 0 ? -2 : 2);
    mean[i] = static_cast<int16_t>((sum + half) / static_cast<int32_t>(count));
  }
  tally().best = 0;
  tally().later = 0;
  std::memset(sums(), 0, 4 * wide_);
}

// One window of one round.
void Learner::step_apart() {
  const uint32_t count = learned_ + held_, round = index_ / count, window = index_ % count;
  measure_apart(round, window);
  ++index_;
  if (window + 1 != count) return;
  round + 1 == kRounds ? after_apart() : turn_apart(round);
}

// How far a model input lies along the direction, |result| < 2^kAlongBits.
int32_t Learner::along_of(const int8_t* x) const {
  const uint32_t n = p_.view->features();
  int32_t along = 0;
  for (uint32_t i = 0; i < n; ++i) along += (x[i] - apart_mean()[i]) * apart_direction()[i];
  const int excess = excess_of(n);
  return excess > 0 ? along >> excess : along;
}

void Learner::measure_apart(uint32_t round, uint32_t w) {
  const uint32_t n = p_.view->features();
  const int8_t* x = p_.view->entry(slot_of(w));
  const int16_t* mean = apart_mean();
  if (round == 0) {
    uint32_t distance = 0;
    for (uint32_t i = 0; i < n; ++i)
      distance += static_cast<uint32_t>((x[i] - mean[i]) * (x[i] - mean[i]));
    if (distance <= tally().best) return;
    tally().best = distance;
    tally().later = static_cast<uint16_t>(w);
    return;
  }
  const int32_t along = along_of(x);
  held_residual()[w] = static_cast<int16_t>(along);
  for (uint32_t i = 0; i < n; ++i) sums()[i] += along * (x[i] - mean[i]);  // 2^14 * 2^8 * 2^8
}

// Ends a round: the next direction.
void Learner::turn_apart(uint32_t round) {
  const uint32_t n = p_.view->features();
  int32_t* sum = sums();
  if (round == 0) {
    const int8_t* x = p_.view->entry(slot_of(tally().later));
    for (uint32_t i = 0; i < n; ++i) sum[i] = x[i] - apart_mean()[i];
  }
  int bits = 0;
  for (uint32_t i = 0; i < n; ++i) {
    const int own = magnitude_bits(sum[i]);
    bits = own > bits ? own : bits;
  }
  const int down = bits - kDirectionBits;
  for (uint32_t i = 0; i < n; ++i) {
    apart_direction()[i] = static_cast<int16_t>(down > 0 ? sum[i] >> down : sum[i] * (1 << -down));
    sum[i] = 0;
  }
}

void Learner::after_apart() {
  const uint32_t count = learned_ + held_;
  const int16_t* along = held_residual();
  int16_t* sorted = held_nearest();
  for (uint32_t w = 0; w < count; ++w) insert_sorted(sorted, w, along[w]);
  const uint32_t low = lower_group(sorted, count);
  const bool upper = 2 * low > count;  // the smaller group
  const uint32_t apart = upper ? count - low : low;
  tally() = {};
  std::memset(sums(), 0, 4 * wide_);
  go(Stage::near_weights);
  if (apart < kLeastApart) return;
  report_.apart = static_cast<uint8_t>(apart);
  if (config_->apart != Apart::leave_out || 100 * apart >= kMostPercent * count) return;
  const int16_t edge = sorted[low - 1];
  const auto leaves = [&](int32_t value) { return (value > edge) == upper; };
  uint32_t from_learned = 0;
  for (uint32_t w = 0; w < learned_; ++w) from_learned += leaves(along[w]) ? 1 : 0;
  if (from_learned == learned_ || apart - from_learned == held_) return;  // a share would be empty
  for (uint32_t e = early_; e-- > 0;) {
    const uint32_t slot = p_.reservoir->first_early() + e;
    if (leaves(along_of(p_.view->entry(slot)))) p_.reservoir->drop_early(slot);
  }
  for (uint32_t w = count; w-- > 0;) {
    if (!leaves(along[w])) continue;
    w < learned_ ? p_.reservoir->drop_learned(w) : p_.reservoir->drop_held(slot_of(w));
    ++report_.dropped;
  }
  learned_ = static_cast<uint8_t>(p_.reservoir->learned());
  held_ = static_cast<uint8_t>(p_.reservoir->held());
  early_ = static_cast<uint8_t>(p_.reservoir->early());
  count_windows();
  go(Stage::calibrate);  // by what is left
}

}  // namespace kilotune
