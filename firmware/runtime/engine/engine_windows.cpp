// Processing of one window: health, score, gate, reservoir.
#include "runtime/engine/engine.h"
#include "runtime/learn/stored.h"
#include "runtime/signal/stages.h"

namespace kilotune {

uint8_t Engine::gate(const WindowHealth& health) {
  uint8_t refused = 0;
  // A machine may have a few full-scale peaks; more than 1 in 256 samples is an overdriven sensor.
  const bool full = health.clipped > uint32_t{features_.window} * features_.axes / 256;
  if (full || health.flattened != 0) refused |= kClipped;
  if (health.constant != 0) refused |= kConstant;
  // Overlapping windows of a buffer that is given again and again take turns.
  const uint32_t f = health.fingerprint;
  const bool same =
      (fingerprints_ > 0 && f == fingerprint_[0]) || (fingerprints_ > 1 && f == fingerprint_[1]);
  const bool froze = health.constant == 0 && health.frozen > features_.window / 8u;
  if (same || froze) refused |= kStuck;
  fingerprint_[1] = fingerprint_[0];
  fingerprint_[0] = f;
  if (fingerprints_ < 2) ++fingerprints_;
  return refused;
}

void Engine::finish_window(const int16_t* features_q10, uint8_t refused) {
  enter(Stage::rest);
  ++counters_.windows;
  WindowResult result = {results_end_, 0, refused, 0, 0};
  // In a new learn phase the old calibration is gone, so there is nothing to score with.
  if (phase_ != Phase::learn || learn_.resume != 0) score_window(features_q10, result);
  if (phase_ == Phase::learn) learn_window(features_q10, result);
  if (phase_ == Phase::detect && lives()) live(features_q10, result);
  enter(Stage::rest);
  for (uint32_t i = 0; i < kRefusalCount; ++i) counters_.refused[i] += (result.refused >> i) & 1u;
  if ((result.flags & kAnomaly) != 0) ++counters_.anomalies;
  results_[results_end_ % kResultRing] = {result.score, result.refused, result.flags,
                                          result.category};
  ++results_end_;
}

void Engine::score_window(const int16_t* features_q10, WindowResult& result) {
  enter(Stage::normalise);
  profile_.normalise(view_, features_q10, trainer_.input());
  count_saturated(trainer_.input());
  enter(Stage::scorers);
  const bool judges = phase_ == Phase::learn && learn_.guard != Guard::none;
  if (judges && profile_.outputs != 0 && result.refused == 0) {
    const int32_t newness = newness_q10(view_, reservoir_, trainer_.input());
    if (newness < kKnown_q10) {
      result.refused = kKnown;
      offered_.refused += kKnownWeight;
    } else if (offered_.windows < kMostWindows) {
      offered_.newness += newness;
    }
  }
  const bool broken = result.refused != 0;  // or known: says nothing new about the machine
  // Before the forward pass, which may write over the input.
  if (judges && learn_.guard == Guard::all && !broken &&
      offer_drifted(profile_, view_, trainer_.input(), offered_)) {
    result.refused |= kDrifted;
  }
  const Score score = scoring_.score(view_.head(), judges && reservoir_.cautious());
  result.score = score.value;
  result.category = score.category;
  result.flags |= kScored;
  if (score.anomalous) {
    result.flags |= kAnomaly;
    if (judges) result.refused |= kAnomalous;
  }
  if (phase_ != Phase::learn || broken) return;
  ++offered_.windows;
  offered_.refused += result.refused != 0 ? 1 : 0;
}

void Engine::learn_window(const int16_t* features_q10, WindowResult& result) {
  if (result.refused != 0) return;
  enter(Stage::reservoir);
  if (lives() && !life_->next_window()) {
    if (life_->full()) end_record();
    return;
  }
  const Reservoir::Places places = lives() ? reservoir_.offer_of_record(0, life_->holds_back())
                                           : reservoir_.offer(stream_label_);
  result.flags |= kLearned;
  ++windows_;
  if (learn_.resume != 0) {
    profile_.normalise(view_, features_q10, trainer_.input());
    if (places.slot >= 0) {
      std::memcpy(view_.entry(static_cast<uint32_t>(places.slot)), trainer_.input(),
                  features_.features_total);
    }
    follow_trend(features_q10, trainer_.input());
    return;
  }
  if (places.slot >= 0) reservoir_.store_raw(static_cast<uint32_t>(places.slot), features_q10);
  if (places.early >= 0) reservoir_.store_raw(static_cast<uint32_t>(places.early), features_q10);
  follow_trend(features_q10, nullptr);
  if (lives() && life_->full()) end_record();
}

// In a first phase of the features themselves, then of model inputs, less the zero point, Q6.
void Engine::follow_trend(const int16_t* features_q10, const int8_t* input) {
  if (!trend_.active()) return;
  trend_.next();
  for (uint32_t i = 0; i < features_.features_total; ++i) {
    const int32_t v = input == nullptr ? features_q10[i] : (input[i] - profile_.zero_point) * 64;
    trend_.add(i, static_cast<int16_t>(v));  // |input - zero point| <= 255
  }
}

void Engine::count_saturated(const int8_t* input) {
  for (uint32_t i = 0; i < features_.features_total; ++i) {
    counters_.inputs_saturated += input[i] == 127 || input[i] == -128 ? 1 : 0;
  }
}

}  // namespace kilotune
