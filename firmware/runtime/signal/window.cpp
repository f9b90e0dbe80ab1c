// Ring bookkeeping, and one pass over a complete window for what the gate needs.
#include "runtime/signal/window.h"

namespace kilotune {
namespace {

constexpr int32_t kFlatRange = 256;  // counts; a coarse sensor repeats its extremes by nature
constexpr uint32_t kFlatShare = 64, kFlatLeast = 8;  // of the samples, and samples, at one extreme

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

bool Window::push(const int16_t* frame) {
  const uint32_t axes = axes_, at = next_;
  int16_t* const to = ring_ + at * axes;
  for (uint32_t axis = 0; axis < axes; ++axis) to[axis] = frame[axis];
  next_ = static_cast<uint16_t>(at + 1 == window_ ? 0 : at + 1);
  ++pushed_;
  if (--until_ != 0) return false;
  until_ = hop_;
  return true;
}

const int16_t* Window::frame(uint32_t index) const {
  const uint32_t back = pushed_ - index;  // 1 to window
  return ring_ + (next_ + (next_ < back ? window_ : 0u) - back) * axes_;
}

WindowHealth Window::health() const {
  const uint32_t axes = axes_, values = window_ * axes;
  const int16_t* const oldest = ring_ + next_ * axes;
  const int16_t* x = oldest;
  uint32_t clipped = 0, changed = 0, fingerprint = 0, axis = 0;
  for (uint32_t i = 0; i < values; ++i) {
    if (*x >= INT16_MAX || *x <= -INT16_MAX) ++clipped;
    if (*x != oldest[axis]) changed |= 1u << axis;
    // Multiplication by an odd number loses nothing, so every single sample has an effect.
    fingerprint = (fingerprint ^ static_cast<uint16_t>(*x)) * 0x01000193u;
    if (++axis == axes) axis = 0;
    if (++x == ring_ + values) x = ring_;
  }
  uint32_t flat = 0;
  for (axis = 0; axis < axes; ++axis) flat |= flattened(axis) ? 1u << axis : 0u;
  return {clipped, static_cast<uint8_t>(~changed & ((1u << axes) - 1u)), static_cast<uint8_t>(flat),
          frozen(), fingerprint};
}

uint32_t Window::frozen() const {
  const uint32_t axes = axes_;
  uint32_t run = 0, longest = 0;
  const int16_t* before = ring_ + next_ * axes;
  for (uint32_t i = 1; i < window_; ++i) {
    const int16_t* x = before + axes == ring_ + window_ * axes ? ring_ : before + axes;
    bool same = true;
    for (uint32_t axis = 0; axis < axes; ++axis) same = same && x[axis] == before[axis];
    run = same ? run + 1 : 0;
    longest = run > longest ? run : longest;
    before = x;
  }
  return longest;
}

// A clipped signal piles up at an extreme, with few samples just inside of it. A sine also spends a
// long time at its extremes, but just as long next to them.
bool Window::flattened(uint32_t axis) const {
  int16_t top = INT16_MIN, bottom = INT16_MAX;
  for (uint32_t i = axis; i < uint32_t{window_} * axes_; i += axes_) {
    top = ring_[i] > top ? ring_[i] : top;
    bottom = ring_[i] < bottom ? ring_[i] : bottom;
  }
  const int32_t range = top - bottom;
  if (range < kFlatRange) return false;
  uint32_t at_top = 0, at_bottom = 0, below_top = 0, above_bottom = 0;
  for (uint32_t i = axis; i < uint32_t{window_} * axes_; i += axes_) {
    const int32_t x = ring_[i];
    at_top += x == top ? 1 : 0;
    at_bottom += x == bottom ? 1 : 0;
    below_top += x != top && top - x <= range / 32 ? 1 : 0;
    above_bottom += x != bottom && x - bottom <= range / 32 ? 1 : 0;
  }
  const auto cut = [&](uint32_t at, uint32_t beside) {
    return at > kFlatLeast && at * kFlatShare > window_ && at > beside;
  };
  return cut(at_top, below_top) || cut(at_bottom, above_bottom);
}

}  // namespace kilotune
