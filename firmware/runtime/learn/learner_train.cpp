// Training passes: seeded order and noise, the best pass on held-back windows, and its replay.
#include "runtime/learn/learner.h"

namespace kilotune {
namespace {

constexpr uint32_t kOrderSeed = 0x0EDE0000u, kNoiseSeed = 0x5EED0000u;

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

}  // namespace

void Learner::train(uint32_t step) {
  // The rate falls linearly to 0: what is left of the noise averages out.
  const uint64_t left = total_steps_ - step;
  (void)p_.trainer->scale_rate(make_real(static_cast<uint32_t>((left << 31) / total_steps_), -31));
  const uint32_t slot = order(config_->train.seed, step / learned_, step % learned_, learned_);
  augment(slot, step);
  Target target = target_of(slot);
  if (!classifies()) target.values = clean();
  (void)p_.trainer->step(target);
}

// clean(): the window with gain and jitter; the trainer's input: that and noise.
void Learner::augment(uint32_t slot, uint32_t step) {
  Random random(config_->train.seed ^ kNoiseSeed, step);
  const uint32_t n = p_.view->features(), per_axis = p_.features_per_axis;
  const int8_t* entry = p_.view->entry(slot);
  int8_t* x = clean();
  for (uint32_t first = 0; first < n; first += per_axis) {
    const int32_t move = config_->jitter == 0 ? 0 : static_cast<int32_t>(random.below(3)) - 1;
    const int32_t span = 2 * 64 * config_->gain + 1;  // Q10 log2
    const int32_t gain =
        config_->gain == 0
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
  const int32_t factor = (config_->noise * p_.profile->sigma_lsb * 111 + 512) >> 10;
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
    tally().held = 0;
    go(Stage::validate);
    return;
  }
  report_.passes_done = passes;
  tally().last = held_ == 0 ? 0 : tally().held / held_;
  if (tally().last < tally().best) {
    tally().best = tally().last;
    report_.passes_kept = passes;
  }
  const bool stale =
      config_->patience != 0 && held_ != 0 && passes - report_.passes_kept >= config_->patience;
  if (passes < config_->passes && !stale) {
    go(Stage::train);
    return;
  }
  // An earlier state must be better by more than 2 % to be worth returning to; it is found by
  // training again from the start, which gives the same bits and needs no memory.
  if (report_.passes_kept != passes && tally().best + tally().best / 50 < tally().last) {
    restart_parameters();
    go(Stage::replay);
    return;
  }
  report_.passes_kept = passes;
  after_training();
}

void Learner::restart_parameters() {
  if (p_.committed != nullptr && config_->resume != 0) {
    (void)p_.trainer->copy_parameters(p_.committed, p_.model->adapter_bytes);
  } else {
    (void)p_.trainer->reset_parameters();
  }
  (void)p_.trainer->begin(config_->train);  // valid: begin() of this learner has checked it
  candidate_ = false;
  kept_steps_ = step_ = 0;
}

}  // namespace kilotune
