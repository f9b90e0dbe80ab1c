// Ring bookkeeping, and one pass over a complete window for what the gate asks.
#include "runtime/window.h"

namespace kilotune {

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
}

bool Window::push(const int16_t* frame) {
  const uint32_t axes = axes_, at = next_;
  int16_t* const to = ring_ + at * axes;
  for (uint32_t axis = 0; axis < axes; ++axis) to[axis] = frame[axis];
  next_ = static_cast<uint16_t>(at + 1 == window_ ? 0 : at + 1);
  if (--until_ != 0) return false;
  until_ = hop_;
  return true;
}

WindowHealth Window::health() const {
  const uint32_t axes = axes_, values = window_ * axes;
  const int16_t* const oldest = ring_ + next_ * axes;
  const int16_t* x = oldest;
  uint32_t clipped = 0, changed = 0, fingerprint = 0, axis = 0;
  for (uint32_t i = 0; i < values; ++i) {
    if (*x >= INT16_MAX || *x <= -INT16_MAX) ++clipped;
    if (*x != oldest[axis]) changed |= 1u << axis;
    // Multiplication by an odd number loses nothing, so no single sample can go unnoticed.
    fingerprint = (fingerprint ^ static_cast<uint16_t>(*x)) * 0x01000193u;
    if (++axis == axes) axis = 0;
    if (++x == ring_ + values) x = ring_;
  }
  return {clipped, static_cast<uint8_t>(~changed & ((1u << axes) - 1u)), fingerprint};
}

}  // namespace kilotune
