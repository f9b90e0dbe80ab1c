// The stages of learning, each cut into steps of about one forward or training pass.
#include "runtime/learn/learner.h"

#include "kernel/fixed_log.h"

namespace kilotune {
namespace {

constexpr uint32_t kManyHeld = 16;  // held-back windows that are enough to tell scorers apart by

int16_t mean_of(const int16_t* v, uint32_t n) {
  int32_t sum = 0;
  for (uint32_t i = 0; i < n; ++i) sum += v[i];
  return static_cast<int16_t>(sum / static_cast<int32_t>(n));
}

}  // namespace

uint32_t Learner::work_bytes(const Profile& profile, uint32_t features) {
  const uint32_t wide = features > profile.outputs ? features : profile.outputs;
  const uint32_t gaps = kWorkRegions * kGapBytes;
  return (sizeof(Tally) + 12 * wide + 4u * profile.capacity + features + gaps + 7) & ~7u;
}

void Learner::share_out() {
  const uint32_t scores = 2u * p_.profile->capacity;
  forbid(p_.work, work_bytes(*p_.profile, p_.view->features()));
  allow(p_.work, sizeof(Tally));
  allow(squares(), 8 * wide_);
  allow(sums(), 4 * wide_);
  allow(held_residual(), scores);
  allow(held_nearest(), scores);
  allow(clean(), p_.view->features());
}

void Learner::end() {
  if (p_.work != nullptr) allow(p_.work, work_bytes(*p_.profile, p_.view->features()));
  p_.work = nullptr;
  stage_ = Stage::done;
}

Status Learner::begin(const Parts& parts, const LearnConfig& config) {
  learned_ = static_cast<uint8_t>(parts.reservoir->learned());
  held_ = static_cast<uint8_t>(parts.reservoir->held());
  early_ = static_cast<uint8_t>(parts.reservoir->early());
  if (learned_ == 0 || (config.hold_count != 0 && held_ == 0)) return Status::too_few_windows;
  p_ = parts;
  config_ = &config;
  if (config.passes != 0) KILOTUNE_TRY(p_.trainer->begin(config.train));
  report_ = {};
  wide_ = p_.view->features() > p_.profile->outputs ? p_.view->features() : p_.profile->outputs;
  share_out();
  tally() = {};
  round_ = Round::start;
  candidate_ = false;
  kept_steps_ = step_ = total_steps_ = 0;
  count_windows();
  go(Stage::calibrate);
  return Status::ok;
}

bool Learner::picks() const {
  return config_->scorer == Scorer::automatic && held_ > 0 && !classifies();
}

bool Learner::step() {
  switch (stage_) {
    case Stage::calibrate:
      calibrate();
      go(classifies() ? Stage::losses : Stage::isolation);
      break;
    case Stage::isolation:
      measure_isolation();
      if (++index_ == learned_) drop_isolated();
      break;
    case Stage::apart:
      if (kHasLife) step_apart();
      break;
    case Stage::near_weights:
      measure_locality();
      if (++index_ == learned_) set_near_weights();
      break;
    case Stage::residuals:
      measure_residual();
      if (++index_ == learned_) {
        p_.profile->calibrate_residuals(*p_.view, sums(), squares(), counted_);
        go(round_ == Round::start ? Stage::losses : Stage::held_scores);
      }
      break;
    case Stage::losses:
      measure_loss();
      if (++index_ == windows()) after_losses();
      break;
    case Stage::held_scores:
      if (index_ < held_) measure_held();
      if (++index_ >= held_) after_held_scores();
      break;
    case Stage::fakes:
      measure_fake();
      if (++index_ == held_ * kFakesPerWindow) after_fakes();
      break;
    case Stage::train:
      train(step_++);
      if (step_ % learned_ == 0) after_pass();
      break;
    case Stage::validate:
      tally().held += loss_of(slot_of(learned_ + index_));
      if (++index_ == held_) after_pass();
      break;
    case Stage::replay:
      train(step_++);
      if (step_ == report_.passes_kept * learned_) after_training();
      break;
    case Stage::finish:
      finish();
      break;
    case Stage::parts:
      measure_parts();
      if (++index_ == learned_ + held_) check_early();
      break;
    case Stage::early:
      measure_early();
      if (++index_ == early_ * (kFakesPerWindow + 1)) conclude();
      break;
    case Stage::done:
      break;
  }
  return stage_ != Stage::done;
}

// --- windows -----------------------------------------------------------------------------------

uint32_t Learner::slot_of(uint32_t i) const {
  if (i < learned_) return i;
  if (i < learned_ + held_) return p_.reservoir->first_held() + i - learned_;
  return p_.reservoir->first_early() + i - learned_ - held_;
}

void Learner::load(uint32_t slot) {
  std::memcpy(p_.trainer->input(), p_.view->entry(slot), p_.view->features());
}

Target Learner::target_of(uint32_t slot) const {
  if (classifies()) return Target::of_class(p_.view->labels()[slot]);
  return Target::of_values(p_.view->entry(slot), p_.view->features());
}

// Refused for labels that no such model can have; offers and adapters were checked for them.
uint64_t Learner::loss_of(uint32_t slot) {
  uint64_t loss = 0;
  load(slot);
  (void)p_.trainer->loss(target_of(slot), loss);
  return loss;
}

// --- what comes after --------------------------------------------------------------------------

void Learner::after_losses() {
  const uint64_t learned = tally().learned / learned_;
  const uint64_t held = held_ == 0 ? 0 : tally().held / held_;
  if (round_ == Round::candidate) {
    report_.loss_candidate_learned = to_i16(log2_q10(learned));
    report_.loss_candidate_held = to_i16(log2_q10(held));
    judge();
    return;
  }
  tally().start_learned = learned;
  tally().start_held = held;
  tally().start_early = tally().early;
  report_.loss_calibration_learned = to_i16(log2_q10(learned));
  report_.loss_calibration_held = to_i16(log2_q10(held));
  if (picks()) {
    go(Stage::held_scores);
  } else {
    after_fakes();
  }
}

void Learner::after_held_scores() {
  if (picks() && round_ != Round::final) {
    go(Stage::fakes);
  } else {
    go(Stage::finish);
  }
}

void Learner::after_fakes() {
  if (picks()) {
    const uint64_t pairs = uint64_t{held_} * held_ * kFakesPerWindow * 2;
    const auto permille = [&](uint32_t points) {
      return static_cast<uint16_t>(points * 1000ull / pairs);
    };
    (round_ == Round::start ? report_.auc_calibration : report_.auc_candidate) =
        permille(tally().wins_residual);
    report_.auc_nearest = permille(tally().wins_nearest);
    report_.auc_combined = permille(tally().wins_combined);
  }
  if (round_ == Round::candidate) {
    choose();
  } else if (config_->passes == 0) {
    judge();
  } else {
    total_steps_ = config_->passes * learned_;
    tally().best = ~0ull;
    go(Stage::train);
  }
}

void Learner::after_training() {
  candidate_ = true;
  kept_steps_ = step_;
  round_ = Round::candidate;
  go(Stage::losses);
}

// The candidate may replace calibration when its loss on held-back windows is lower, and the gap to
// the windows it learned from has not grown by more than that loss has fallen. (Training lowers the
// loss on what it learns from, so a gap in absolute terms always grows a little.)
void Learner::judge() {
  bool allowed = false;
  if (candidate_ && held_ > 0) {
    const int64_t learned = static_cast<int64_t>(tally().learned / learned_);
    const int64_t held = static_cast<int64_t>(tally().held / held_);
    const int64_t before_learned = static_cast<int64_t>(tally().start_learned);
    const int64_t before_held = static_cast<int64_t>(tally().start_held);
    const int64_t wider = (held - learned) - (before_held - before_learned);
    allowed = held < before_held && wider <= before_held - held;
  }
  const uint8_t reasons = candidate_ ? objections() : uint8_t{0};
  if (allowed) report_.guard.reasons = static_cast<uint8_t>(report_.guard.reasons | reasons);
  allowed = allowed && reasons == 0;
  report_.candidate_allowed = allowed ? 1 : 0;
  if (candidate_ && !allowed && config_->force == 0) restart_parameters();
  if (classifies()) {
    go(Stage::finish);
  } else if (candidate_) {
    go(Stage::residuals);
  } else if (picks()) {
    choose();  // by the start's figures
  } else {
    round_ = Round::final;
    go(Stage::held_scores);
  }
}

// The combined scorer, unless another one tells pseudo-faults better by the profile's margin. A
// network alone must be better by more where few windows were held back: two of them prefer it by
// chance, and what it misses are whole kinds of faults; stored windows alone were never far from
// the best (docs/DESIGN.md). A later phase may return to the combined one, but not begin to look at
// a window from one side only: whoever chooses its windows would choose the side.
void Learner::choose() {
  struct Rival {
    uint32_t auc, margin;
    Scorer scorer;
    bool calibration;
  };
  const bool forced = config_->force != 0;
  const uint32_t margin = p_.profile->margin_permille;
  const uint32_t wide = held_ >= kManyHeld ? margin : margin * kManyHeld / held_;
  const Rival rivals[] = {
      {candidate_ && forced ? 0u : report_.auc_calibration, wide, Scorer::residual, true},
      {candidate_ ? report_.auc_candidate : 0u, wide, Scorer::residual, false},
      {report_.auc_nearest, margin, Scorer::nearest, false},
  };
  Rival best = {report_.auc_combined, 0, Scorer::combined, false};
  for (const Rival& r : rivals) {
    if (bound() && p_.view->head().scorer != static_cast<uint8_t>(r.scorer)) continue;
    if (r.auc + best.margin > best.auc + r.margin) best = r;
  }
  report_.scorer = best.scorer;
  round_ = Round::final;
  if (best.calibration && candidate_) {
    restart_parameters();
    go(Stage::residuals);
  } else {
    go(Stage::finish);
  }
}

void Learner::finish() {
  if (config_->scorer != Scorer::automatic) report_.scorer = config_->scorer;
  // Stored windows are at distance 0 of themselves: without held-back ones only residuals tell.
  if (report_.scorer == Scorer::automatic || (held_ == 0 && !classifies()))
    report_.scorer = Scorer::residual;
  CalibrationHead head = p_.view->head();  // what the first phase measured stays
  p_.reservoir->save(head);
  head.calibrated = 1;
  head.candidate = candidate_ ? 1 : 0;
  head.scorer = static_cast<uint8_t>(report_.scorer);
  if (!classifies()) {
    int16_t* scores = held_residual();
    uint32_t n = held_;
    if (n == 0) {  // the learned windows' own residuals, which are a little too low
      n = learned_;
      for (uint32_t i = 0; i < n; ++i) {
        load(i);
        scores[i] = to_i16(p_.scoring->residual());
      }
    } else {
      head.residual_level = mean_of(held_residual(), n);
      head.nearest_level = mean_of(held_nearest(), n);
    }
    if (report_.scorer == Scorer::nearest) scores = held_nearest();
    if (report_.scorer == Scorer::combined) {
      for (uint32_t i = 0; i < n; ++i) {
        scores[i] = to_i16(Scoring::combine(held_residual()[i], held_nearest()[i], head));
      }
    }
    head.threshold = to_i16(threshold_q10(*p_.profile, scores, n));
    if (held_ != 0 && early_ == 0) compare_held(scores, head);
    if (config_->resume == 0) set_origin(head);
  }
  p_.view->set_head(head);
  report_.learned = static_cast<uint16_t>(learned_);
  report_.held = static_cast<uint16_t>(held_);
  report_.kept_candidate = head.candidate;
  report_.threshold = head.threshold;
  const Drift drift = parameter_drift(*p_.model, p_.adapter);
  report_.guard.drift_weights = drift.weights;
  report_.guard.drift_biases = drift.biases;
  if (bound() && !classifies()) {
    go(Stage::parts);
  } else {
    check_early();
  }
}

}  // namespace kilotune
