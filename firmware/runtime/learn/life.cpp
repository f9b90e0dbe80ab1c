// Records, persistence, drifts and phases.
#include "runtime/learn/life.h"

#include "kernel/fixed_point.h"
#include "kernel/random.h"

namespace kilotune {
namespace {

constexpr uint32_t kSampleSeed = 0x11FE0000u;
constexpr int32_t kUnknownDrift_q10 = 1024;  // until two phases have told
constexpr uint32_t kMostAge = 0xC0000000u;
// From that age on, phases get rarer faster: a sensor that never rests makes many records a second,
// and flash wears with every phase.
constexpr uint32_t kOldAge = 4096;

void insert_sorted(int16_t* v, uint32_t n, int16_t value) {
  uint32_t at = n;
  for (; at > 0 && v[at - 1] > value; --at) v[at] = v[at - 1];
  v[at] = value;
}

int32_t median_of(const int16_t* ascending, uint32_t n) {
  return (ascending[(n - 1) / 2] + ascending[n / 2]) / 2;
}

uint32_t bits_in(uint32_t v) {
  uint32_t n = 0;
  for (; v != 0; v &= v - 1) ++n;
  return n;
}

}  // namespace

void Life::open(const LifeConfig& config) {
  config_ = config;
  state_ = {};
  windows_ = judged_ = 0;
  followed_ = 0;
}

void Life::begin(uint32_t seed) {
  open(config_);
  state_.on = 1;
  state_.seed = seed;
}

void Life::load(const uint8_t* p) {
  open(config_);
  LifeState& s = state_;
  s.age = load_u32(p);
  s.due = load_u32(p + 4);
  s.settled = load_u32(p + 8);
  s.alarm = load_u32(p + 12);
  s.seed = load_u32(p + 16);
  for (uint32_t i = 0; i < kDrifts; ++i) s.drift[i] = load_i16(p + 20 + 2 * i);
  s.allowance = load_i16(p + 26);
  s.anchor_level = load_i16(p + 28);
  s.phases = load_u16(p + 30);
  s.drifts = p[32];
  s.recent = p[33];
  s.on = p[34];
  s.anchored = p[35];
  s.causes = p[36];
}

void Life::save(uint8_t* p) const {
  const LifeState& s = state_;
  store_u32(p, s.age);
  store_u32(p + 4, s.due);
  store_u32(p + 8, s.settled);
  store_u32(p + 12, s.alarm);
  store_u32(p + 16, s.seed);
  for (uint32_t i = 0; i < kDrifts; ++i)
    store_u16(p + 20 + 2 * i, static_cast<uint16_t>(s.drift[i]));
  store_u16(p + 26, static_cast<uint16_t>(s.allowance));
  store_u16(p + 28, static_cast<uint16_t>(s.anchor_level));
  store_u16(p + 30, s.phases);
  p[32] = s.drifts;
  p[33] = s.recent;
  p[34] = s.on;
  p[35] = s.anchored;
  p[36] = s.causes;
  p[37] = p[38] = p[39] = 0;
}

bool Life::accepts(const uint8_t* p) {
  return load_u32(p) <= kMostAge && p[32] <= kDrifts && p[34] <= 1 && p[35] <= 1;
}

bool Life::next_window() {
  const uint32_t spacing = (config_.record + kJudged - 1) / kJudged;
  return windows_++ % spacing == 0;
}

void Life::judge(int32_t score_q10, int32_t anchor_q10) {
  insert_sorted(scores_, judged_, to_i16(score_q10));
  insert_sorted(distances_, judged_, to_i16(anchor_q10));
  ++judged_;
}

void Life::end_first_record() {
  windows_ = judged_ = 0;
  if (state_.age < kMostAge) ++state_.age;
}

bool Life::end_record(int32_t limit_q10) {
  uint8_t causes = 0;
  if (judged_ != 0) {
    const int32_t score = median_of(scores_, judged_);
    follow(score);
    if (score > limit_q10) causes |= kOverThreshold;
    if (state_.anchored != 0 && median_of(distances_, judged_) > kAnchorLimit_q10)
      causes |= kOverAnchor;
  }
  if (!watches()) causes = 0;
  end_first_record();
  state_.recent = static_cast<uint8_t>(state_.recent << 1 | (causes != 0 ? 1 : 0));
  const bool alarm = bits_in(state_.recent & ((1u << config_.of) - 1)) >= config_.alarmed;
  if (!alarm) state_.alarm = state_.causes = 0;
  if (alarm) {
    state_.causes |= causes;
    if (state_.alarm == 0) state_.alarm = state_.age;
  }
  return causes != 0;
}

// Algorithm R, as the reservoir's.
void Life::follow(int32_t score_q10) {
  ++followed_;
  uint32_t at = followed_ - 1;
  if (at >= kSample) at = Random(state_.seed ^ kSampleSeed, followed_).below(followed_);
  if (at < kSample) sample_[at] = to_i16(score_q10);
}

// The 60 % quantile, at least 0.
int32_t Life::drifted() {
  const uint32_t n = followed_ < kSample ? followed_ : kSample;
  for (uint32_t i = 1; i < n; ++i) insert_sorted(sample_, i, sample_[i]);
  const uint32_t tenths = 6 * (n - 1);
  const uint32_t i = tenths / 10;
  const int32_t next = i + 1 < n ? sample_[i + 1] : sample_[i];
  const int32_t q = sample_[i] + (next - sample_[i]) * static_cast<int32_t>(tenths % 10) / 10;
  return q > 0 ? q : 0;
}

void Life::begin_phase() {
  LifeState& s = state_;
  if (followed_ != 0) {
    for (uint32_t i = kDrifts - 1; i > 0; --i) s.drift[i] = s.drift[i - 1];
    s.drift[0] = to_i16(drifted());
    if (s.drifts < kDrifts) ++s.drifts;
    const bool old = s.age >= 2u * config_.first;
    if (!watches() && old && s.drift[0] < kSettled_q10) s.settled = s.age;
  }
  followed_ = 0;
  int32_t most = s.drifts > 1 ? 0 : kUnknownDrift_q10;
  for (uint32_t i = 0; i < s.drifts && s.drifts > 1; ++i)
    most = s.drift[i] > most ? s.drift[i] : most;
  s.allowance = to_i16(most + most / 2);
  const uint32_t wait = (s.age + 2) / (s.age < kOldAge ? 4 : 2);
  s.due = s.age + (wait < 2 ? 2 : wait);
  if (s.phases < 0xFFFF) ++s.phases;
}

void Life::set_anchor(int32_t level_q10) {
  state_.anchored = 1;
  state_.anchor_level = to_i16(level_q10);
}

}  // namespace kilotune
