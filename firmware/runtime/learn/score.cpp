// Scores and the threshold, on a logarithmic scale.
#include "runtime/learn/score.h"

#include "kernel/fixed_log.h"
#include "kernel/fixed_point.h"
#include "runtime/signal/stages.h"

namespace kilotune {
SquaredError Scoring::differences() const {
  enter(Stage::network);
  (void)trainer_->forward(true);  // the engine opens trainers that can
  enter(Stage::scorers);
  return {trainer_->execution(), model_->training(), {}};
}

int32_t Scoring::residual() const {
  const SquaredError differences = this->differences();
  const int16_t* mean = view_->residual_mean();
  const uint16_t* scale = view_->residual_scale();
  uint64_t sum = 0;
  for (uint32_t o = 0; o < profile_->outputs; ++o) {
    // |r - mean| < 2^17; a residual beyond 500 sigma counts as 500.
    const int32_t t = clamp((residual_of(differences, o) - mean[o]) * 64 / scale[o], -32000, 32000);
    sum += static_cast<uint32_t>(t * t);
  }
  return log2_q10(sum + 1) - log2_q10(profile_->outputs) - 12 * 1024;
}

int32_t Scoring::nearest(const int8_t* x, uint32_t learned, bool old_only) const {
  const uint16_t* weight = view_->near_weight();
  const uint32_t n = view_->features();
  const uint32_t k = profile_->neighbours < learned ? profile_->neighbours : learned;
  uint64_t best[kMaxNeighbours];  // ascending; a profile is opened with no more
  uint32_t found = 0;
  uint64_t later = ~0ull;
  for (uint32_t s = 0; s < learned; ++s) {
    const uint8_t label = view_->labels()[s];
    if ((kHasLife && label >= kWaiting) || (old_only && label == kFresh)) continue;
    const int8_t* e = view_->entry(s);
    uint64_t distance = 0;
    for (uint32_t i = 0; i < n; ++i) {
      const int32_t d = x[i] - e[i];
      distance += static_cast<uint32_t>(d * d) * uint32_t{weight[i]};  // 255^2 * 65535 < 2^32
    }
    if (label != kFirst) {
      later = distance < later ? distance : later;
      continue;
    }
    uint32_t at = found;
    while (at > 0 && best[at - 1] > distance) --at;
    if (at >= k) continue;
    if (found < k) ++found;
    for (uint32_t j = found - 1; j > at; --j) best[j] = best[j - 1];
    best[at] = distance;
  }
  if (later != ~0ull) {
    if (found != 0 && later < best[0] / 2) later = best[0] / 2;
    if (found < k) {
      best[found++] = later;
    } else if (found != 0 && later < best[found - 1]) {
      best[found - 1] = later;
    }
  }
  uint64_t sum = 0;
  for (uint32_t j = 0; j < found; ++j) sum += best[j];
  return log2_q10((sum >> 8) + 1) - log2_q10(uint64_t{found} * n) - 8 * 1024;
}

Score Scoring::classify() const {
  enter(Stage::network);
  (void)trainer_->forward(true);
  enter(Stage::scorers);
  const Training t = model_->training();
  const Execution& run = trainer_->execution();
  const int8_t* logits = run.data(model_->tensor(t.tensor));
  uint8_t winner = 0;
  for (uint16_t i = 1; i < t.classes; ++i) {
    if (logits[i] > logits[winner]) winner = static_cast<uint8_t>(i);
  }
  const uint64_t loss = loss_value(run, t, Target::of_class(winner));  // -log2 p, Q20
  return {to_i16(-static_cast<int32_t>(loss >> 10)), winner, false};
}

Score Scoring::score(const CalibrationHead& head, bool old_only) const {
  if (profile_->outputs == 0) return classify();
  const Scorer scorer = static_cast<Scorer>(head.scorer);
  const bool near = scorer == Scorer::nearest || scorer == Scorer::combined;
  int32_t value = 0;
  // The distance first: the forward pass may write over the input.
  if (near && head.learned > 0) value = nearest(trainer_->input(), head.learned, old_only);
  if (scorer != Scorer::nearest) {
    const int32_t r = residual();
    value = scorer == Scorer::combined ? combine(r, value, head) : r;
  }
  return {to_i16(value), 0, value > head.threshold};
}

int32_t threshold_q10(const Profile& profile, const int16_t* scores, uint32_t n) {
  int64_t sum = 0, squares = 0;  // |score| < 2^15, n < 2^8
  for (uint32_t i = 0; i < n; ++i) {
    sum += scores[i];
    squares += int64_t{scores[i]} * scores[i];
  }
  const int64_t count = n;
  const int64_t mean = sum / count;
  const int64_t deviations = squares - sum * sum / count;  // Q20, at least 0 up to rounding
  const int64_t freedom = count - 1 + profile.threshold_pseudo;
  const int64_t spread = profile.threshold_spread_q10;
  const uint64_t total = static_cast<uint64_t>((deviations > 0 ? deviations : 0) +
                                               profile.threshold_pseudo * spread * spread);
  if (freedom == 0) return static_cast<int32_t>(mean);
  // Variance of a new score around the mean of n: s^2 (1 + 1/n).
  const uint64_t variance =
      total * static_cast<uint64_t>(count + 1) / static_cast<uint64_t>(freedom * count);
  const int64_t quantile = profile.quantile_q10 + profile.quantile_tail_q10 / freedom;
  return static_cast<int32_t>(mean + ((quantile * square_root(variance)) >> 10));
}

}  // namespace kilotune
