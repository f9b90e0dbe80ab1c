// Records, persistence, drifts and phases.
#include "runtime/learn/life.h"

#include "kernel/fixed_point.h"
#include "kernel/random.h"
#include "runtime/learn/sorted.h"

namespace kilotune {
namespace {

constexpr uint32_t kSampleSeed = 0x11FE0000u;
constexpr int32_t kUnknownDrift_q10 = 1024;  // until two phases have told
constexpr uint32_t kMostAge = 0xA0000000u;   // half as much again still has 32 bits
// From that age on, phases get rarer faster: a sensor that never rests makes many records a second,
// and flash wears with every phase.
constexpr uint32_t kOldAge = 4096;

int32_t median_of(const int16_t* ascending, uint32_t n) {
  return (ascending[(n - 1) / 2] + ascending[n / 2]) / 2;
}

bool is_rule(uint32_t alarmed, uint32_t of) { return alarmed >= 1 && alarmed <= of && of <= 8; }

void count(uint8_t& n) { n = static_cast<uint8_t>(n + (n < 255 ? 1 : 0)); }

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
  has_judged_ = false;
  kept_ = Status::ok;
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
  s.alarmed = p[37];
  s.of = p[38];
  s.normals = p[39];
  s.faults = p[40];
  for (uint32_t i = 0; i < kToldBands; ++i) s.bands[i] = load_i16(p + 42 + 2 * i);
  s.accepting = load_u32(p + 48);
  s.alarm_score = load_i16(p + 52);
  s.alarm_distance = load_i16(p + 54);
  s.told = load_u32(p + 56);
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
  p[37] = s.alarmed;
  p[38] = s.of;
  p[39] = s.normals;
  p[40] = s.faults;
  p[41] = 0;
  for (uint32_t i = 0; i < kToldBands; ++i)
    store_u16(p + 42 + 2 * i, static_cast<uint16_t>(s.bands[i]));
  store_u32(p + 48, s.accepting);
  store_u16(p + 52, static_cast<uint16_t>(s.alarm_score));
  store_u16(p + 54, static_cast<uint16_t>(s.alarm_distance));
  store_u32(p + 56, s.told);
}

bool Life::accepts(const uint8_t* p) {
  const bool rule = p[38] == 0 ? p[37] == 0 : is_rule(p[37], p[38]);
  return load_u32(p) <= kMostAge && p[32] <= kDrifts && p[34] <= 1 && p[35] <= 1 && rule;
}

bool Life::set_rule(uint32_t alarmed, uint32_t of) {
  if (!is_rule(alarmed, of)) return false;
  state_.alarmed = static_cast<uint8_t>(alarmed);
  state_.of = static_cast<uint8_t>(of);
  return true;
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

void Life::tell_bands(const int16_t bands[kToldBands]) {
  for (uint32_t i = 0; i < kToldBands; ++i) bands_[i] = bands[i];
}

uint8_t Life::causes_of_record(int32_t limit_q10) const {
  const LifeState& s = state_;
  int32_t most = limit_q10, farthest = anchor_limit_q10();
  if (accepting()) {
    const int32_t score = s.alarm_score + kAccepted_q10, far = s.alarm_distance + kAccepted_q10;
    most = score > most ? score : most;
    farthest = far > farthest ? far : farthest;
  }
  uint8_t causes = 0;
  if (score_ > most) causes |= kThreshold;
  if (s.anchored != 0 && distance_ > farthest) causes |= kAnchor;
  return watches() ? causes : uint8_t{0};
}

bool Life::end_record(int32_t limit_q10) {
  LifeState& s = state_;
  uint8_t causes = 0;
  if (judged_ != 0) {
    score_ = to_i16(median_of(scores_, judged_));
    distance_ = to_i16(median_of(distances_, judged_));
    has_judged_ = true;
    causes = causes_of_record(limit_q10);
    // What an alarm is about is no drift: the next phase would raise the threshold above it.
    if (!accepting() && s.alarm == 0) follow(score_);
  }
  if (causes != 0 && !accepting()) {
    s.alarm_score = score_;
    s.alarm_distance = distance_;
    for (uint32_t i = 0; i < kToldBands; ++i) s.bands[i] = bands_[i];
  }
  end_first_record();
  s.recent = static_cast<uint8_t>(s.recent << 1 | (causes != 0 ? 1 : 0));
  const bool alarm = bits_in(s.recent & ((1u << of()) - 1)) >= alarmed();
  if (!alarm) s.alarm = s.causes = 0;
  if (alarm) {
    s.causes |= causes;
    if (s.alarm == 0) s.alarm = s.age;
  }
  return causes != 0;
}

void Life::end_alarm() {
  state_.alarm = 0;
  state_.recent = state_.causes = 0;
  state_.told = state_.age;
  followed_ = 0;
}

bool Life::accept() {
  if (state_.alarm == 0 || accepting()) return false;
  end_alarm();
  count(state_.normals);
  state_.accepting = state_.due = state_.age + config_.first;
  return true;
}

void Life::reject() {
  end_alarm();
  count(state_.faults);
  state_.accepting = 0;
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
  if (s.accepting != 0) s.accepting = s.anchored = 0;
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
