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

int32_t Engine::record_limit() const { return to_i16(view_.head().threshold - level()); }

// (feature - mean) / scale by the calibration that stays, or by the present one until there is one.
int32_t Engine::sigmas_q6(const int16_t* features_q10, uint32_t i) const {
  const bool anchored = life_->state().anchored != 0;
  const int32_t mean = anchored ? view_.anchor_mean()[i] : view_.feature_mean()[i];
  const int32_t scale = anchored ? view_.anchor_scale()[i] : view_.feature_scale()[i];
  // Q10 over Q12 in Q6; a scale is at least 8.
  return clamp((features_q10[i] - mean) * 256 / scale, -32000, 32000);
}

// log2 of the mean over features of its square, Q10.
int32_t Engine::anchor_distance(const int16_t* features_q10) const {
  const uint32_t n = features_.features_total;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; ++i) {
    const int32_t z = sigmas_q6(features_q10, i);
    sum += static_cast<uint32_t>(z * z);
  }
  return log2_q10(sum + 1) - log2_q10(n) - 12 * 1024;
}

void Engine::tell_bands(const int16_t* features_q10) {
  int16_t bands[kToldBands] = {};
  int32_t sizes[kToldBands] = {};
  for (uint32_t i = 0; i < features_.features_total; ++i) {
    const int32_t z = sigmas_q6(features_q10, i);
    int32_t size = z < 0 ? -z : z;
    const auto number = static_cast<int32_t>(i + 1);
    auto band = static_cast<int16_t>(z < 0 ? -number : number);
    for (uint32_t k = 0; k < kToldBands; ++k) {
      if (size <= sizes[k]) continue;
      const int32_t smaller = sizes[k];
      const int16_t other = bands[k];
      sizes[k] = size;
      bands[k] = band;
      size = smaller;
      band = other;
    }
  }
  life_->tell_bands(bands);
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
    const int32_t score = result.score - level();
    life_->judge(score, far);
    if (score > record_limit() || far > life_->anchor_limit_q10()) tell_bands(features_q10);
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
  const bool alarmed = life_->end_record(record_limit());
  reservoir_.end_record(!alarmed);
  reservoir_.save(head);
  view_.set_head(head);
  life_->save(view_.life());
}

Status Engine::phase_begin() {
  if (!open_) return Status::no_model;
  if (phase_ != Phase::detect || !lives()) return Status::wrong_state;
  end_record();
  if (reservoir_.learned() == 0 || reservoir_.held() == 0) {
    life_->postpone();
    return Status::too_few_windows;
  }
  learn_ = alone_config();
  learn_.apart = Apart::ignore;  // a machine that has moved is no news
  learn_.train.seed = life_->state().seed + life_->state().phases;
  (void)trainer_.reset_parameters();
  trend_.begin(kTrendMemory);
  offered_ = {};
  const Status status = begin_learner();
  status == Status::ok ? life_->begin_phase() : life_->postpone();
  return status;
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
  if (!first) life_->note_commit(commit());
}

Status Engine::acknowledge(Acknowledgement what) {
  if (!open_) return Status::no_model;
  if (phase_ == Phase::train) return Status::busy;
  if (phase_ != Phase::detect || !lives()) return Status::wrong_state;
  end_record();
  const Life before = *life_;
  const CalibrationHead head = view_.head();
  if (what == Acknowledgement::fault) {
    life_->reject();
    reservoir_.drop_waiting();
    return keep_life(before);
  }
  if (!life_->accept()) return Status::wrong_state;
  reservoir_.make_room();
  const Status status = keep_life(before);
  if (status == Status::ok) return status;
  view_.set_head(head);
  reservoir_.restore(&view_, head);
  reservoir_.live(life_->state().seed);
  return status;
}

Status Engine::set_alarm_rule(uint32_t alarmed, uint32_t of) {
  if (!open_) return Status::no_model;
  if (phase_ == Phase::train) return Status::busy;
  if (phase_ != Phase::detect || !lives()) return Status::wrong_state;
  end_record();
  const Life before = *life_;
  return life_->set_rule(alarmed, of) ? keep_life(before) : Status::bad_argument;
}

// Writes what has changed to flash; if that fails, what was before counts.
Status Engine::keep_life(const Life& before) {
  CalibrationHead head = view_.head();
  reservoir_.save(head);
  view_.set_head(head);
  life_->save(view_.life());
  const Status status = commit();
  if (status == Status::ok) return status;
  *life_ = before;
  life_->save(view_.life());
  return status;
}

}  // namespace kilotune
