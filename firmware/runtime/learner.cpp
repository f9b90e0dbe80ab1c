// The stages of learning, each cut into steps of about one forward or training pass.
#include "runtime/learner.h"

#include "kernel/fixed_log.h"

namespace kilotune {
namespace {

constexpr uint32_t kFakesPerWindow = 16;
constexpr int32_t kIsolated = 4 * 1024;  // Q10 log2: 16 times the median squared distance
constexpr uint32_t kOrderSeed = 0x0EDE0000u, kNoiseSeed = 0x5EED0000u, kFakeSeed = 0xFA4E0000u;

int32_t log2_q10(uint64_t v) { return log2_q16(v) >> 6; }
int16_t to_i16(int32_t v) { return static_cast<int16_t>(clamp(v, -32768, 32767)); }
int8_t to_i8(int32_t v) { return static_cast<int8_t>(clamp(v, -128, 127)); }

uint32_t greatest_common_divisor(uint32_t a, uint32_t b) {
  while (b != 0) {
    const uint32_t r = a % b;
    a = b;
    b = r;
  }
  return a;
}

// The i-th of n windows in pass `pass`: an affine permutation, so that no list is kept.
uint32_t order(uint32_t seed, uint32_t pass, uint32_t i, uint32_t n) {
  Random random(seed ^ kOrderSeed, pass);
  const uint32_t offset = random.below(n);
  uint32_t stride = 1 + random.below(n);
  while (greatest_common_divisor(stride, n) != 1) ++stride;
  return (offset + i * (stride % n)) % n;
}

int16_t mean_of(const int16_t* v, uint32_t n) {
  int32_t sum = 0;
  for (uint32_t i = 0; i < n; ++i) sum += v[i];
  return static_cast<int16_t>(sum / static_cast<int32_t>(n));
}

// Half points of comparing one pseudo-fault's score with every held-back window's.
uint32_t wins(int32_t fake, const int16_t* held, uint32_t n) {
  uint32_t points = 0;
  for (uint32_t i = 0; i < n; ++i) points += fake > held[i] ? 2u : (fake == held[i] ? 1u : 0u);
  return points;
}

}  // namespace

uint32_t Learner::work_bytes(const Profile& profile, uint32_t features) {
  const uint32_t wide = features > profile.outputs ? features : profile.outputs;
  return (12 * wide + 4u * profile.capacity + features + 7) & ~7u;
}

Status Learner::begin(const Parts& parts, const LearnConfig& config) {
  learned_ = parts.reservoir->learned();
  held_ = parts.reservoir->held();
  if (learned_ == 0 || (config.hold_count != 0 && held_ == 0)) return Status::too_few_windows;
  p_ = parts;
  config_ = config;
  training_ = p_.model->training();
  const Status status = p_.trainer->begin(config.train);
  if (status != Status::ok) return status;
  report_ = {};
  wide_ = p_.view->features() > p_.profile->outputs ? p_.view->features() : p_.profile->outputs;
  round_ = Round::start;
  candidate_ = false;
  kept_steps_ = step_ = total_steps_ = 0;
  go(Stage::calibrate);
  return Status::ok;
}

bool Learner::picks() const {
  return config_.scorer == Scorer::automatic && held_ > 0 && !classifies();
}

uint16_t Learner::progress_permille() const {
  if (stage_ == Stage::done) return 1000;
  if (total_steps_ == 0) return 0;
  if (stage_ == Stage::train || stage_ == Stage::validate) {
    return static_cast<uint16_t>(50 + uint64_t{step_} * 800 / total_steps_);
  }
  return round_ == Round::start && step_ == 0 ? 20 : 900;
}

bool Learner::step() {
  switch (stage_) {
    case Stage::calibrate:
      if (config_.resume == 0) p_.profile->calibrate(*p_.view, *p_.reservoir);
      p_.reservoir->set_calibrated();
      go(classifies() ? Stage::losses : Stage::isolation);
      break;
    case Stage::isolation:
      measure_isolation();
      if (++index_ == learned_) drop_isolated();
      break;
    case Stage::near_weights:
      measure_locality();
      if (++index_ == learned_) set_near_weights();
      break;
    case Stage::residuals:
      measure_residual();
      if (++index_ == learned_) {
        p_.profile->calibrate_residuals(*p_.view, sums(), squares(), learned_);
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
      load(slot_of(learned_ + index_));
      sum_held_ += p_.trainer->loss(target_of(slot_of(learned_ + index_)));
      if (++index_ == held_) after_pass();
      break;
    case Stage::replay:
      train(step_++);
      if (step_ == report_.passes_kept * learned_) after_training();
      break;
    case Stage::finish:
      finish();
      break;
    case Stage::done:
      break;
  }
  return stage_ != Stage::done;
}

// --- windows -----------------------------------------------------------------------------------

uint32_t Learner::slot_of(uint32_t i) const {
  return i < learned_ ? i : p_.reservoir->first_held() + i - learned_;
}

void Learner::load(uint32_t slot) {
  std::memcpy(p_.trainer->input(), p_.view->entry(slot), p_.view->features());
}

Target Learner::target_of(uint32_t slot) const {
  Target t;
  if (classifies()) {
    t.category = p_.view->labels()[slot];
  } else {
    t.values = p_.view->entry(slot);
  }
  return t;
}

uint32_t Learner::neighbours(uint32_t slot, uint32_t* found, uint32_t& mean_distance) const {
  const uint32_t n = p_.view->features();
  const uint32_t k = p_.profile->neighbours;
  const int8_t* x = p_.view->entry(slot);
  uint32_t best[4], count = 0;
  for (uint32_t s = 0; s < learned_; ++s) {
    if (s == slot) continue;
    const int8_t* e = p_.view->entry(s);
    uint32_t distance = 0;
    for (uint32_t i = 0; i < n; ++i) {
      const int32_t d = x[i] - e[i];
      distance += static_cast<uint32_t>(d * d);
    }
    uint32_t at = count;
    while (at > 0 && best[at - 1] > distance) --at;
    if (at >= k) continue;
    if (count < k) ++count;
    for (uint32_t j = count - 1; j > at; --j) {
      best[j] = best[j - 1];
      found[j] = found[j - 1];
    }
    best[at] = distance;
    found[at] = s;
  }
  uint64_t sum = 0;
  for (uint32_t j = 0; j < count; ++j) sum += best[j];
  mean_distance = count == 0 ? 0 : static_cast<uint32_t>(sum / count);
  return count;
}

void Learner::measure_isolation() {
  uint32_t found[4], distance = 0;
  (void)neighbours(index_, found, distance);
  held_residual()[index_] = to_i16(log2_q10(uint64_t{distance} + 1));
}

// A learned window far from every other one is a knock or a truck passing, not the machine. A rare
// state of the machine has at least two windows near each other.
void Learner::drop_isolated() {
  int16_t* distance = held_residual();
  if (learned_ >= 8 && config_.resume == 0) {
    int16_t* sorted = held_nearest();
    for (uint32_t i = 0; i < learned_; ++i) {
      uint32_t at = i;
      for (; at > 0 && sorted[at - 1] > distance[i]; --at) sorted[at] = sorted[at - 1];
      sorted[at] = distance[i];
    }
    const int32_t limit = sorted[learned_ / 2] + kIsolated;
    for (uint32_t s = learned_; s-- > 0;) {
      if (distance[s] <= limit) continue;
      p_.reservoir->drop_learned(s);
      distance[s] = distance[p_.reservoir->learned()];
      ++report_.dropped;
    }
    learned_ = p_.reservoir->learned();
  }
  std::memset(sums(), 0, 4 * wide_);
  go(Stage::near_weights);
}

// Sum over windows of (k x - sum of the k nearest others)^2: below 255 * (4 * 255 * 2)^2 < 2^31.
void Learner::measure_locality() {
  uint32_t found[4], distance = 0;
  const uint32_t k = neighbours(index_, found, distance);
  const int8_t* x = p_.view->entry(index_);
  for (uint32_t i = 0; i < p_.view->features(); ++i) {
    int32_t d = static_cast<int32_t>(k) * x[i];
    for (uint32_t j = 0; j < k; ++j) d -= p_.view->entry(found[j])[i];
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
  const uint64_t windows = learned_ == 0 ? 1 : learned_;
  const uint64_t prior = total * p_.profile->near_pseudo / (n * windows) + 1;
  uint64_t least = ~0ull;
  for (uint32_t i = 0; i < n; ++i)
    least = variance(i) + prior < least ? variance(i) + prior : least;
  for (uint32_t i = 0; i < n; ++i) {
    p_.view->near_weight()[i] = static_cast<uint16_t>(65535 * least / (variance(i) + prior));
  }
  go(Stage::residuals);
}

// --- measurements ------------------------------------------------------------------------------

void Learner::measure_residual() {
  const uint32_t n = p_.profile->outputs;
  if (index_ == 0) {
    std::memset(sums(), 0, 4 * n);
    std::memset(squares(), 0, 8 * n);
  }
  load(index_);
  const SquaredError differences = p_.scoring->differences();
  for (uint32_t o = 0; o < n; ++o) {
    const int32_t r = residual_of(differences, o);
    sums()[o] += r;
    squares()[o] += static_cast<uint32_t>(r * r);
  }
}

void Learner::measure_loss() {
  if (index_ == 0) sum_learned_ = sum_held_ = 0;
  const uint32_t slot = slot_of(index_);
  load(slot);
  const uint64_t loss = p_.trainer->loss(target_of(slot));
  (index_ < learned_ ? sum_learned_ : sum_held_) += loss;
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
  if (index_ == 0) wins_residual_ = wins_nearest_ = wins_combined_ = 0;
  const uint32_t slot = slot_of(learned_ + index_ / kFakesPerWindow);
  Random random(config_.train.seed ^ kFakeSeed, index_);
  make_fake(p_.view->entry(slot), index_ % kFakesPerWindow, random, clean());
  std::memcpy(p_.trainer->input(), clean(), p_.view->features());
  const int32_t near = p_.scoring->nearest(clean(), learned_);
  const int32_t residual = p_.scoring->residual();
  wins_residual_ += wins(residual, held_residual(), held_);
  wins_nearest_ += wins(near, held_nearest(), held_);
  for (uint32_t i = 0; i < held_; ++i) {
    const int32_t other = held_residual()[i] + held_nearest()[i];
    wins_combined_ += residual + near > other ? 2u : (residual + near == other ? 1u : 0u);
  }
}

// --- what comes after --------------------------------------------------------------------------

void Learner::after_losses() {
  const uint64_t learned = sum_learned_ / learned_;
  const uint64_t held = held_ == 0 ? 0 : sum_held_ / held_;
  if (round_ == Round::candidate) {
    report_.loss_candidate_learned = to_i16(log2_q10(learned));
    report_.loss_candidate_held = to_i16(log2_q10(held));
    judge();
    return;
  }
  start_learned_ = learned;
  start_held_ = held;
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
        permille(wins_residual_);
    report_.auc_nearest = permille(wins_nearest_);
    report_.auc_combined = permille(wins_combined_);
  }
  if (round_ == Round::candidate) {
    choose();
  } else if (config_.passes == 0) {
    judge();
  } else {
    total_steps_ = config_.passes * learned_;
    best_loss_ = ~0ull;
    go(Stage::train);
  }
}

void Learner::train(uint32_t step) {
  // The rate falls linearly to 0: what is left of the noise averages out.
  const uint64_t left = total_steps_ - step;
  p_.trainer->scale_rate(make_real(static_cast<uint32_t>((left << 31) / total_steps_), -31));
  const uint32_t slot = order(config_.train.seed, step / learned_, step % learned_, learned_);
  augment(slot, step);
  Target target = target_of(slot);
  if (!classifies()) target.values = clean();
  p_.trainer->step(target);
}

// clean(): the window with gain and jitter; the trainer's input: that and noise.
void Learner::augment(uint32_t slot, uint32_t step) {
  Random random(config_.train.seed ^ kNoiseSeed, step);
  const uint32_t n = p_.view->features(), per_axis = p_.features_per_axis;
  const int8_t* entry = p_.view->entry(slot);
  int8_t* x = clean();
  for (uint32_t first = 0; first < n; first += per_axis) {
    const int32_t move = config_.jitter == 0 ? 0 : static_cast<int32_t>(random.below(3)) - 1;
    const int32_t span = 2 * 64 * config_.gain + 1;  // Q10 log2
    const int32_t gain =
        config_.gain == 0
            ? 0
            : static_cast<int32_t>(random.below(static_cast<uint32_t>(span))) - span / 2;
    for (uint32_t i = 0; i < per_axis; ++i) {
      const int32_t from =
          clamp(static_cast<int32_t>(i) + move, 0, static_cast<int32_t>(per_axis) - 1);
      int32_t v = entry[first + static_cast<uint32_t>(from)];
      if (gain != 0) v += gain * 4 * p_.profile->sigma_lsb / p_.view->feature_scale()[first + i];
      x[first + i] = to_i8(v);
    }
  }
  // The sum of four random bytes has mean 510 and deviation 147.8; 111 / 2^10 = 16 / 147.8.
  const int32_t factor = (config_.noise * p_.profile->sigma_lsb * 111 + 512) >> 10;
  int8_t* input = p_.trainer->input();
  for (uint32_t i = 0; i < n; ++i) {
    int32_t v = x[i];
    if (factor != 0) {
      const uint32_t a = random.bits(16), b = random.bits(16);
      const int32_t sum = static_cast<int32_t>((a & 255u) + (a >> 8) + (b & 255u) + (b >> 8));
      v += ((sum - 510) * factor) >> 8;
    }
    input[i] = to_i8(v);
  }
}

void Learner::after_pass() {
  const uint16_t passes = static_cast<uint16_t>(step_ / learned_);
  if (stage_ == Stage::train && held_ > 0) {
    sum_held_ = 0;
    go(Stage::validate);
    return;
  }
  report_.passes_done = passes;
  last_loss_ = held_ == 0 ? 0 : sum_held_ / held_;
  if (last_loss_ < best_loss_) {
    best_loss_ = last_loss_;
    report_.passes_kept = passes;
  }
  const bool stale =
      config_.patience != 0 && held_ != 0 && passes - report_.passes_kept >= config_.patience;
  if (passes < config_.passes && !stale) {
    go(Stage::train);
    return;
  }
  // An earlier state must be better by more than 2 % to be worth returning to; it is found by
  // training again from the start, which gives the same bits and needs no memory.
  if (report_.passes_kept != passes && best_loss_ + best_loss_ / 50 < last_loss_) {
    restart_parameters();
    go(Stage::replay);
    return;
  }
  report_.passes_kept = passes;
  after_training();
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
    const int64_t learned = static_cast<int64_t>(sum_learned_ / learned_);
    const int64_t held = static_cast<int64_t>(sum_held_ / held_);
    const int64_t before_learned = static_cast<int64_t>(start_learned_);
    const int64_t before_held = static_cast<int64_t>(start_held_);
    const int64_t wider = (held - learned) - (before_held - before_learned);
    allowed = held < before_held && wider <= before_held - held;
  }
  report_.candidate_allowed = allowed ? 1 : 0;
  if (candidate_ && !allowed && config_.force == 0) restart_parameters();
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

// The combined scorer, unless another one tells pseudo-faults better by the profile's margin.
void Learner::choose() {
  struct Rival {
    uint16_t auc;
    Scorer scorer;
    bool calibration;
  };
  const bool forced = config_.force != 0;
  const Rival rivals[] = {
      {candidate_ && forced ? uint16_t{0} : report_.auc_calibration, Scorer::residual, true},
      {candidate_ ? report_.auc_candidate : uint16_t{0}, Scorer::residual, false},
      {report_.auc_nearest, Scorer::nearest, false},
  };
  Rival best = {static_cast<uint16_t>(report_.auc_combined + p_.profile->margin_permille),
                Scorer::combined, false};
  for (const Rival& r : rivals) {
    if (r.auc > best.auc) best = r;
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

void Learner::restart_parameters() {
  if (p_.committed != nullptr && config_.resume != 0) {
    p_.trainer->copy_parameters(p_.committed);
  } else {
    p_.trainer->reset_parameters();
  }
  (void)p_.trainer->begin(config_.train);  // valid: begin() of this learner has checked it
  candidate_ = false;
  kept_steps_ = step_ = 0;
}

void Learner::finish() {
  if (config_.scorer != Scorer::automatic) report_.scorer = config_.scorer;
  // Stored windows are at distance 0 of themselves: without held-back ones only residuals tell.
  if (report_.scorer == Scorer::automatic || (held_ == 0 && !classifies()))
    report_.scorer = Scorer::residual;
  CalibrationHead head;
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
  }
  p_.view->set_head(head);
  report_.learned = static_cast<uint16_t>(learned_);
  report_.held = static_cast<uint16_t>(held_);
  report_.kept_candidate = head.candidate;
  report_.threshold = head.threshold;
  go(Stage::done);
}

}  // namespace kilotune
