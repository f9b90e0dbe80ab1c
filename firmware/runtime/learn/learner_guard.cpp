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
  g.early = static_cast<uint8_t>(early_);
  g.margin_now = to_i16(head.threshold - tally().early_score / static_cast<int32_t>(early_));
  g.told_now = static_cast<uint16_t>(tally().early_told * 1000 / (early_ * kFakesPerWindow));
  if (config_->resume == 0) {
    head.early_margin = g.margin_now;
    head.early_permille = g.told_now;
    p_.view->set_head(head);
  } else if (early_ >= kLeastEarly && p_.offered->windows != 0) {
    g.shift = to_i16(shift_q10(*p_.profile, *p_.view, *p_.offered));
  }
  g.margin_first = head.early_margin;
  g.told_first = head.early_permille;
}

// Few held-back windows make a threshold that moves by chance, and many phases would move it far.
void Learner::lower_threshold(int32_t by_q10) {
  CalibrationHead head = p_.view->head();
  head.threshold = to_i16(head.threshold - by_q10);
  report_.threshold = head.threshold;
  p_.view->set_head(head);
}

void Learner::conclude() {
  GuardReport& g = report_.guard;
  if (early_ != 0) compare_early();
  go(Stage::done);
  if (config_->resume == 0 || config_->guard != Guard::all) return;
  const auto mind = [&](bool holds, Reason reason) {
    if (holds) g.reasons = static_cast<uint8_t>(g.reasons | reason);
  };
  mind(p_.offered->refused > p_.offered->windows / kRefusedShare, kUnlike);
  mind(g.shift > kShiftLimit_q10, kShifted);
  mind(g.early_alarms > early_ / kAlarmShare, kEarlyAlarms);
  mind(g.told_now + kToldLoss_permille < g.told_first, kInsensitive);
  const int32_t growth = g.margin_now - g.margin_first;
  mind(growth > kMarginGrowth_q10, kTolerant);
  if (early_ != 0 && growth > kMarginKept_q10) lower_threshold(growth - kMarginKept_q10);
  g.returned = (g.reasons & kReturning) != 0 ? 1 : 0;
}

}  // namespace kilotune
