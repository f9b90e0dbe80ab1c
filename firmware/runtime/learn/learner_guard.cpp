// What a learn phase may change: the first one sets the limits, later ones are held to them.
#include "kernel/fixed_log.h"
#include "runtime/learn/learner.h"

namespace kilotune {
namespace {

constexpr uint32_t kEarlyFakeSeed = 0xEA51FA4Eu;  // the same pseudo-faults in every phase

}  // namespace

void Learner::calibrate() {
  GuardReport& guard = report_.guard;
  const bool follows = p_.trend->active() && p_.trend->windows() != 0;
  if (config_->resume == 0) {
    p_.profile->calibrate(*p_.view, *p_.reservoir);
    if (follows) guard.unsteady = unsteadiness(*p_.view, *p_.trend);
  } else if (config_->recalibrate != 0 && follows && p_.trend->windows() >= kAgeLeast) {
    // Stored windows stay as they are: they move with the machine.
    if (!follow_age(*p_.profile, *p_.view, *p_.trend)) guard.reasons = kAged;
  }
  if (p_.profile->early != 0) guard.aged = aged_permille(*p_.profile, *p_.view);
  p_.reservoir->set_calibrated();
}

uint8_t Learner::objections() {
  const auto mean_q10 = [&](uint64_t sum) { return to_i16(log2_q10(sum / early_)); };
  if (early_ != 0) {
    report_.guard.loss_early_before = mean_q10(tally().start_early);
    report_.guard.loss_early_after = mean_q10(tally().early);
  }
  if (config_->guard != Guard::all) return 0;
  const Drift drift = parameter_drift(*p_.model, p_.adapter);
  const bool far = drift.weights > kDriftLimit.weights || drift.biases > kDriftLimit.biases;
  // Not by a hair: what every phase may add would add up.
  const bool worse = early_ != 0 && tally().early > tally().start_early;
  return static_cast<uint8_t>((far ? kParameters : 0) | (worse ? kEarlyLoss : 0));
}

// How far healthy windows lie from the first calibration and from each other, once and for all.
void Learner::set_origin(CalibrationHead& head) {
  int16_t* distance = held_residual();  // the threshold has been computed from it
  const uint32_t n = held_ != 0 ? held_ : learned_;
  for (uint32_t i = 0; i < n; ++i) {
    const uint32_t slot = slot_of(held_ != 0 ? learned_ + i : i);
    distance[i] = to_i16(origin_distance(*p_.profile, *p_.view, p_.view->entry(slot)));
  }
  head.origin = 1;
  head.origin_limit = to_i16(threshold_q10(*p_.profile, distance, n));
  if (early_ < kLeastEarly) return;
  for (uint32_t i = 0; i < early_; ++i) {
    const uint32_t slot = p_.reservoir->first_early() + i;
    distance[i] = to_i16(early_distance(*p_.view, p_.view->entry(slot), early_, slot));
  }
  head.early_limit = to_i16(threshold_q10(*p_.profile, distance, early_));
}

bool Learner::bound() const { return config_->resume != 0 && config_->guard == Guard::all; }

// Later windows are learned, but how far healthy ones spread is for the first ones to say: in a
// band that a fault creeps into, the spread grows before anything else.
void Learner::count_windows() {
  uint32_t first = 0;
  for (uint32_t s = 0; s < learned_; ++s) first += is_later(s) ? 0 : 1;
  counted_ = static_cast<uint8_t>(bound() && !classifies() && first != 0 ? first : learned_);
}

// Where there are no early windows, the first phase's held-back ones stand for them, as far as they
// are still there. Nothing was trained on them either.
void Learner::compare_held(const int16_t* scores, CalibrationHead& head) {
  int32_t sum = 0, n = 0;
  for (uint32_t i = 0; i < held_; ++i) {
    if (bound() && is_later(slot_of(learned_ + i))) continue;
    sum += scores[i];
    ++n;
  }
  report_.guard.margin_now = n == 0 ? head.early_margin : to_i16(head.threshold - sum / n);
  if (config_->resume == 0) head.early_margin = report_.guard.margin_now;
}

void Learner::check_early() {
  tally().early_score = 0;
  tally().early_told = 0;
  report_.guard.shift = to_i16(parts_q10());
  if (early_ != 0) {
    go(Stage::early);
  } else {
    conclude();
  }
}

// One early window as it is, or one of the pseudo-faults made of it.
void Learner::measure_early() {
  const CalibrationHead head = p_.view->head();
  const uint32_t variant = index_ % (kFakesPerWindow + 1);
  const int8_t* entry =
      p_.view->entry(p_.reservoir->first_early() + index_ / (kFakesPerWindow + 1));
  if (variant == kFakesPerWindow) {
    std::memcpy(p_.trainer->input(), entry, p_.view->features());
  } else {
    Random random(kEarlyFakeSeed, index_);
    make_fake(entry, variant, random, p_.trainer->input());
  }
  const Score score = p_.scoring->score(head);
  if (variant != kFakesPerWindow) {
    tally().early_told += score.anomalous ? 1 : 0;
    return;
  }
  tally().early_score += score.value;
  report_.guard.early_alarms =
      static_cast<uint8_t>(report_.guard.early_alarms + (score.anomalous ? 1 : 0));
}

// The first phase leaves its figures in the head, later ones are compared with them.
void Learner::compare_early() {
  CalibrationHead head = p_.view->head();
  GuardReport& g = report_.guard;
  g.early = early_;
  g.margin_now = to_i16(head.threshold - tally().early_score / static_cast<int32_t>(early_));
  g.told_now = static_cast<uint16_t>(tally().early_told * 1000 / (early_ * kFakesPerWindow));
  if (config_->resume == 0) {
    head.early_margin = g.margin_now;
    head.early_permille = g.told_now;
    p_.view->set_head(head);
  } else if (early_ >= kLeastEarly && p_.offered->windows != 0) {
    const int32_t shift = shift_q10(*p_.profile, *p_.view, *p_.offered);
    if (shift > g.shift) g.shift = to_i16(shift);
  }
  g.told_first = head.early_permille;
}

// Few held-back windows make a threshold that moves by chance, and many phases would move it far.
// Windows that are like learned ones, such as those of a recording cut at another place, make one
// that is too low for all others.
void Learner::move_threshold(int32_t by_q10) {
  CalibrationHead head = p_.view->head();
  head.threshold = to_i16(head.threshold + by_q10);
  report_.threshold = head.threshold;
  p_.view->set_head(head);
}

void Learner::conclude() {
  GuardReport& g = report_.guard;
  if (early_ != 0) compare_early();
  g.margin_first = p_.view->head().early_margin;
  go(Stage::done);
  if (config_->resume == 0 || config_->guard != Guard::all) return;
  const auto mind = [&](bool holds, Reason reason) {
    if (holds) g.reasons = static_cast<uint8_t>(g.reasons | reason);
  };
  const Offered& offered = *p_.offered;
  const int32_t windows =
      static_cast<int32_t>(offered.windows < kMostWindows ? offered.windows : kMostWindows);
  mind(offered.refused > offered.windows / kRefusedShare, kUnlike);
  mind(offered.newness < kLeastNewness_q10 * windows, kUnlike);
  mind(g.shift > kShiftLimit_q10, kShifted);
  mind(g.early_alarms > early_ / kAlarmShare, kEarlyAlarms);
  mind(g.told_now + kToldLoss_permille < g.told_first, kInsensitive);
  const int32_t growth = g.margin_now - g.margin_first;
  mind(early_ != 0 && growth > kMarginGrowth_q10, kTolerant);
  if (early_ != 0 && growth > 0) move_threshold(-growth);
  // Without early windows, those that stand for them may be like learned ones too: no slack then.
  const int32_t lost = early_ != 0 ? kMarginLost_q10 : 0;
  if (growth < -lost) move_threshold(-lost - growth);
  g.returned = (g.reasons & kReturning) != 0 ? 1 : 0;
}

}  // namespace kilotune
