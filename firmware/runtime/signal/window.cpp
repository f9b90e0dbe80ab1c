// Ring bookkeeping, and what the gate needs of a complete window: a pass over each axis, and one
// over the frames in their order.
#include "runtime/signal/window.h"

#include "kernel/ops/copy.h"

namespace kilotune {
namespace {

constexpr int32_t kFlatRange = 256;  // counts; a coarse sensor repeats its extremes by nature
constexpr uint32_t kFlatShare = 64, kFlatLeast = 8;  // of the samples, and samples, at one extreme
constexpr uint32_t kFingerprintFactor = 0x01000193u;

// Little-endian samples at any address.
void copy_samples(int16_t* to, const uint8_t* from, uint32_t n) {
#ifdef __ARM_FEATURE_UNALIGNED
  copy_bytes(to, from, 2 * n);
#else
  if (reinterpret_cast<uintptr_t>(from) % 2 != 0) {
    std::memcpy(to, from, 2 * n);
    return;
  }
  const int16_t* samples = reinterpret_cast<const int16_t*>(from);
  for (const int16_t* const end = samples + n; samples != end; ++samples, ++to) {
    *to = *samples;
    keep_loop();
  }
#endif
}

}  // namespace

void Window::open(int16_t* memory, uint16_t window, uint16_t hop, uint8_t axes) {
  ring_ = memory;
  window_ = window;
  hop_ = hop;
  axes_ = axes;
  reset();
}

void Window::reset() {
  next_ = 0;
  until_ = window_;
  pushed_ = 0;
}

uint32_t Window::take(const uint8_t* frames, uint32_t n, bool& complete) {
  const uint32_t frame_bytes = 2u * axes_;
  uint32_t taken = 0;
  do {
    const uint32_t to_end = window_ - next_, left = n - taken;
    uint32_t run = left < until_ ? left : until_;
    if (run > to_end) run = to_end;
    copy_samples(ring_ + next_ * axes_, frames + taken * frame_bytes, run * axes_);
    next_ = static_cast<uint16_t>(run == to_end ? 0 : next_ + run);
    until_ = static_cast<uint16_t>(until_ - run);
    taken += run;
  } while (taken < n && until_ != 0);
  pushed_ += taken;
  complete = until_ == 0;
  if (complete) until_ = hop_;
  return taken;
}

const int16_t* Window::frame(uint32_t index) const {
  const uint32_t back = pushed_ - index;  // 1 to window
  return ring_ + (next_ + (next_ < back ? window_ : 0u) - back) * axes_;
}

AxisRange range_of(const int16_t* samples, uint32_t n, uint32_t stride) {
  AxisRange r = {0, *samples, *samples, 0, 0};
  const auto take = [&r](int32_t x) {
    r.sum += x;
    if (x >= r.high) {
      r.at_high = x > r.high ? 1 : r.at_high + 1;
      r.high = x;
    }
    if (x <= r.low) {
      r.at_low = x < r.low ? 1 : r.at_low + 1;
      r.low = x;
    }
  };
  for (; n >= 4; n -= 4, samples += 4 * stride) {
    take(samples[0]);
    take(samples[stride]);
    take(samples[2 * stride]);
    take(samples[3 * stride]);
  }
  for (; n != 0; --n, samples += stride) take(*samples);
  return r;
}

WindowHealth Window::health(AxisRange ranges[kMaxAxes]) const {
  const uint32_t axes = axes_;
  WindowHealth health = {};
  bool at_end = false;
  for (uint32_t axis = 0; axis < axes; ++axis) {
    const AxisRange& r = ranges[axis] = range_of(ring_ + axis, window_, axes);
    if (r.low == r.high) health.constant |= static_cast<uint8_t>(1u << axis);
    if (flattened(axis, r)) health.flattened |= static_cast<uint8_t>(1u << axis);
    at_end = at_end || r.high >= INT16_MAX || r.low <= -INT16_MAX;
  }
  if (at_end) {
    for (uint32_t i = 0; i < window_ * axes; ++i)
      health.clipped += ring_[i] >= INT16_MAX || ring_[i] <= -INT16_MAX ? 1 : 0;
  }
  follow(health);
  return health;
}

// What depends on the order of frames, oldest first: from there to the ring's end, then the rest.
void Window::follow(WindowHealth& health) const {
  const uint32_t axes = axes_;
  const int16_t* const oldest = ring_ + next_ * axes;
  const int16_t* before = oldest;
  const int16_t* x = oldest;
  const int16_t* end = ring_ + window_ * axes;
  int32_t last = *oldest ^ 1;  // another value: the oldest frame follows none
  uint32_t fingerprint = 0, run = 0;
  for (uint32_t part = 0; part < 2; ++part) {
    while (x != end) {
      const int32_t first = x[0];
      // Multiplication by an odd number loses nothing, so every single sample has an effect.
      fingerprint = (fingerprint ^ static_cast<uint16_t>(first)) * kFingerprintFactor;
      for (uint32_t a = 1; a < axes; ++a)
        fingerprint = (fingerprint ^ static_cast<uint16_t>(x[a])) * kFingerprintFactor;
      if (first != last) {
        run = 0;
      } else {
        bool same = true;
        for (uint32_t a = 1; a < axes; ++a) same = same && x[a] == before[a];
        run = same ? run + 1 : 0;
        health.frozen = run > health.frozen ? run : health.frozen;
      }
      last = first;
      before = x;
      x += axes;
    }
    x = ring_;
    end = oldest;
  }
  health.fingerprint = fingerprint;
}

// A clipped signal piles up at an extreme, with few samples just inside of it. A sine also spends a
// long time at its extremes, but just as long next to them.
bool Window::flattened(uint32_t axis, const AxisRange& range) const {
  const int32_t span = range.high - range.low;
  if (span < kFlatRange) return false;
  const auto many = [&](uint32_t at) { return at > kFlatLeast && at * kFlatShare > window_; };
  const bool high = many(range.at_high), low = many(range.at_low);
  if (!high && !low) return false;  // as nearly always
  uint32_t below_high = 0, above_low = 0;
  for (uint32_t i = axis; i < uint32_t{window_} * axes_; i += axes_) {
    const int32_t x = ring_[i];
    below_high += x != range.high && range.high - x <= span / 32 ? 1 : 0;
    above_low += x != range.low && x - range.low <= span / 32 ? 1 : 0;
  }
  return (high && range.at_high > below_high) || (low && range.at_low > above_low);
}

}  // namespace kilotune
