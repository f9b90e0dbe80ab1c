// What one window adds to residual statistics, losses, held-back scores and pseudo-faults.
#include "runtime/learn/learner.h"

namespace kilotune {
namespace {

constexpr uint32_t kFakeSeed = 0xFA4E0000u;

// Half points of comparing one pseudo-fault's score with every held-back window's.
uint32_t wins(int32_t fake, const int16_t* held, uint32_t n) {
  uint32_t points = 0;
  for (uint32_t i = 0; i < n; ++i) points += fake > held[i] ? 2u : (fake == held[i] ? 1u : 0u);
  return points;
}

}  // namespace

void Learner::measure_residual() {
  const uint32_t n = p_.profile->outputs;
  if (index_ == 0) {
    std::memset(sums(), 0, 4 * n);
    std::memset(squares(), 0, 8 * n);
  }
  if (!counts(index_)) return;
  load(index_);
  const SquaredError differences = p_.scoring->differences();
  for (uint32_t o = 0; o < n; ++o) {
    const int32_t r = residual_of(differences, o);
    sums()[o] += r;
    squares()[o] += static_cast<uint32_t>(r * r);
  }
}

void Learner::measure_loss() {
  if (index_ == 0) tally().learned = tally().held = tally().early = 0;
  const uint32_t slot = slot_of(index_);
  const uint64_t loss = loss_of(slot);
  (index_ < learned_ ? tally().learned
                     : (index_ < learned_ + held_ ? tally().held : tally().early)) += loss;
}

void Learner::measure_held() {
  const uint32_t slot = slot_of(learned_ + index_);
  held_nearest()[index_] = to_i16(p_.scoring->nearest(p_.view->entry(slot), learned_));
  load(slot);
  held_residual()[index_] = to_i16(p_.scoring->residual());
}

// A fault that nobody has seen, made from a healthy window: a run of 2, 4 or 8 neighbouring bands
// (on each axis with probability 2/3) moved by 1 to 4 sigma, or all bands by half that; mostly
// upwards.
void Learner::make_fake(const int8_t* entry, uint32_t variant, Random& random, int8_t* fake) const {
  const uint32_t per_axis = p_.features_per_axis, n = p_.view->features();
  const int32_t sigma = p_.profile->sigma_lsb;
  int32_t shift = sigma * static_cast<int32_t>(1 + variant % 4);
  if (random.below(4) == 0) shift = -shift;
  const uint32_t kind = variant / 4 % 4;
  for (uint32_t i = 0; i < n; ++i) fake[i] = kind == 3 ? to_i8(entry[i] + shift / 2) : entry[i];
  if (kind == 3) return;
  const uint32_t wanted = 2u << kind;
  const uint32_t run = wanted < per_axis ? wanted : per_axis;
  for (uint32_t first = 0; first < n; first += per_axis) {
    if (n != per_axis && random.below(3) == 0) continue;
    const uint32_t at = first + random.below(per_axis - run + 1);
    for (uint32_t i = at; i < at + run; ++i) fake[i] = to_i8(entry[i] + shift);
  }
}

void Learner::measure_fake() {
  if (index_ == 0) tally().wins_residual = tally().wins_nearest = tally().wins_combined = 0;
  const uint32_t slot = slot_of(learned_ + index_ / kFakesPerWindow);
  Random random(config_->train.seed ^ kFakeSeed, index_);
  make_fake(p_.view->entry(slot), index_ % kFakesPerWindow, random, clean());
  std::memcpy(p_.trainer->input(), clean(), p_.view->features());
  const int32_t near = p_.scoring->nearest(clean(), learned_);
  const int32_t residual = p_.scoring->residual();
  tally().wins_residual += wins(residual, held_residual(), held_);
  tally().wins_nearest += wins(near, held_nearest(), held_);
  for (uint32_t i = 0; i < held_; ++i) {
    const int32_t other = held_residual()[i] + held_nearest()[i];
    tally().wins_combined += residual + near > other ? 2u : (residual + near == other ? 1u : 0u);
  }
}

}  // namespace kilotune
