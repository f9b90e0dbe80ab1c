// A device that lives on: what it does with a window and a record once the first phase is over, and
// its later phases.
#include "kernel/fixed_log.h"
#include "kernel/fixed_point.h"
#include "runtime/engine/engine.h"
#include "runtime/signal/stages.h"

namespace kilotune {

const LifeState& Engine::life() const {
  static constexpr LifeState kUnborn{};
  return open_ && life_ != nullptr ? life_->state() : kUnborn;
}

// Mean score of the held-back windows by the scorer in use.
int32_t Engine::level() const {
  const CalibrationHead head = view_.head();
  switch (static_cast<Scorer>(head.scorer)) {
    case Scorer::residual:
      return head.residual_level;
    case Scorer::nearest:
      return head.nearest_level;
    default:
      return 0;  // the combined score is levelled
  }
}

// log2 of the mean over features of ((feature - mean) / scale)^2 by the calibration that stays,
// Q10.
int32_t Engine::anchor_distance(const int16_t* features_q10) const {
  const uint32_t n = features_.features_total;
  const int16_t* mean = view_.anchor_mean();
  const uint16_t* scale = view_.anchor_scale();
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; ++i) {
    // Q10 over Q12 in Q6; a scale is at least 8.
    const int32_t z = clamp((features_q10[i] - mean[i]) * 256 / scale[i], -32000, 32000);
    sum += static_cast<uint32_t>(z * z);
  }
  return log2_q10(sum + 1) - log2_q10(n) - 12 * 1024;
}

void Engine::live(const int16_t* features_q10, WindowResult& result) {
  enter(Stage::reservoir);
  if (!life_->watches() && (result.flags & kAnomaly) != 0) {
    result.flags = static_cast<uint8_t>(result.flags & ~kAnomaly);
  }
  if (result.refused != 0) return;
  if (life_->next_window()) {
    const bool anchored = life_->state().anchored != 0;
    const int32_t far = anchored ? anchor_distance(features_q10) - life_->state().anchor_level : 0;
    life_->judge(result.score - level(), far);
    if (life_->learns()) {
      const Reservoir::Places places = reservoir_.offer_of_record(kPending, life_->holds_back());
      if (places.slot >= 0) {
        int8_t* const entry = view_.entry(static_cast<uint32_t>(places.slot));
        profile_.normalise(view_, features_q10, entry, kCoarse);
      }
      result.flags |= kLearned;
      ++windows_;
    }
  }
  if (life_->full()) end_record();
}

void Engine::end_record() {
  if (!lives() || !life_->in_record()) return;
  if (phase_ == Phase::learn) return life_->end_first_record();
  if (phase_ != Phase::detect) return;
  CalibrationHead head = view_.head();
  const bool alarmed = life_->end_record(head.threshold - level());
  reservoir_.end_record(!alarmed);
  reservoir_.save(head);
  view_.set_head(head);
  life_->save(view_.life());
}

Status Engine::phase_begin() {
  if (!open_) return Status::no_model;
  if (phase_ != Phase::detect || !lives()) return Status::wrong_state;
  end_record();
  learn_ = alone_config();
  learn_.train.seed = life_->state().seed + life_->state().phases;
  (void)trainer_.reset_parameters();
  trend_.begin(kTrendMemory);
  offered_ = {};
  life_->begin_phase();
  return begin_learner();
}

void Engine::end_life_phase() {
  const bool first = life_->state().phases == 1;
  CalibrationHead head = view_.head();
  if (life_->wants_anchor()) {
    const uint32_t n = features_.features_total;
    std::memcpy(view_.anchor_mean(), view_.feature_mean(), 4u * n);
    int32_t sum = 0;
    // Of model inputs, which are in sigma: origin_limit's distance, in units of the anchor's.
    for (uint32_t s = 0; s < reservoir_.held(); ++s) {
      sum += origin_distance(profile_, view_, view_.entry(reservoir_.first_held() + s));
    }
    const int32_t sigma = log2_q10(static_cast<uint32_t>(profile_.sigma_lsb * profile_.sigma_lsb));
    life_->set_anchor(sum / static_cast<int32_t>(reservoir_.held()) - sigma);
  }
  head.threshold = to_i16(head.threshold + life_->state().allowance);
  view_.set_head(head);
  life_->save(view_.life());
  // The first one is for whoever has begun it to keep.
  if (!first) static_cast<void>(commit());
}

}  // namespace kilotune
