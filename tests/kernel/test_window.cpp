// When windows are complete, which sample is the oldest, and what the gate is told.
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "runtime/signal/window.h"

using namespace kilotune;

namespace {

// One frame; whether it completes a window.
bool push(Window& window, const int16_t* frame) {
  bool complete = false;
  CHECK(window.take(reinterpret_cast<const uint8_t*>(frame), 1, complete) == 1);
  return complete;
}

WindowHealth health_of(const Window& window) {
  AxisRange ranges[kMaxAxes];
  return window.health(ranges);
}

}  // namespace

TEST_CASE("frames stay readable by their index, and after a gap windows begin anew") {
  int16_t memory[5 * 2];
  Window window;
  window.open(memory, 5, 2, 2);
  const auto give = [&window](int16_t i) {
    const int16_t frame[2] = {i, static_cast<int16_t>(-i)};
    return push(window, frame);
  };
  for (int16_t i = 0; i < 7; ++i) CHECK(give(i) == (i == 4 || i == 6));
  CHECK(window.pushed() == 7);
  for (uint32_t i = 2; i < 7; ++i) {
    CHECK(window.frame(i)[0] == static_cast<int16_t>(i));
    CHECK(window.frame(i)[1] == -static_cast<int16_t>(i));
  }
  window.gap();
  CHECK(window.frame(6)[0] == 6);
  for (int16_t i = 7; i < 12; ++i) CHECK(give(i) == (i == 11));
  CHECK(window.ring()[window.first() * 2] == 7);
  CHECK(window.frame(11)[0] == 11);
  window.reset();
  CHECK(window.pushed() == 0);
}

TEST_CASE("windows are complete after `window` frames and then every `hop`") {
  std::vector<int16_t> memory(2 * 8);
  Window window;
  window.open(memory.data(), 8, 3, 2);
  CHECK(Window::bytes(8, 2) == memory.size() * 2);
  int complete = 0;
  for (int i = 0; i < 30; ++i) {
    const int16_t frame[2] = {static_cast<int16_t>(i), static_cast<int16_t>(-i)};
    const bool now = push(window, frame);
    CHECK(now == (i >= 7 && (i - 7) % 3 == 0));
    if (!now) continue;
    ++complete;
    for (int k = 0; k < 8; ++k) {
      const uint32_t at = (window.first() + static_cast<uint32_t>(k)) % 8;
      CHECK(window.ring()[2 * at] == i - 7 + k);
      CHECK(window.ring()[2 * at + 1] == -(i - 7 + k));
    }
  }
  CHECK(complete == 8);
}

TEST_CASE("reset forgets what came before a gap") {
  int16_t memory[4];
  Window window;
  window.open(memory, 4, 1, 1);
  const int16_t x = 5;
  for (int i = 0; i < 6; ++i) (void)push(window, &x);
  window.reset();
  for (int i = 0; i < 3; ++i) CHECK_FALSE(push(window, &x));
  CHECK(push(window, &x));
}

TEST_CASE("health counts clipped samples and names constant axes") {
  int16_t memory[3 * 4];
  Window window;
  window.open(memory, 4, 4, 3);
  const int16_t frames[4][3] = {{32767, 7, 1}, {-32768, 7, 1}, {-32767, 7, 2}, {32766, 7, 1}};
  for (int i = 0; i < 4; ++i) CHECK(push(window, frames[i]) == (i == 3));
  CHECK(health_of(window).clipped == 3);
  CHECK(health_of(window).constant == 2);
}

TEST_CASE("the fingerprint is that of the samples in order, wherever the ring begins") {
  int16_t a[5], b[5];
  Window early, late;
  early.open(a, 5, 5, 1);
  late.open(b, 5, 1, 1);
  const int16_t x[8] = {9, 9, 9, 1, 2, 3, 4, 5};
  for (int i = 3; i < 8; ++i) (void)push(early, &x[i]);
  for (int i = 0; i < 8; ++i) (void)push(late, &x[i]);
  CHECK(health_of(early).fingerprint == health_of(late).fingerprint);
  for (int bit = 0; bit < 16; ++bit) {
    a[2] = static_cast<int16_t>(a[2] ^ (1 << bit));
    CHECK(health_of(early).fingerprint != health_of(late).fingerprint);
    a[2] = static_cast<int16_t>(a[2] ^ (1 << bit));
  }
}

namespace {

// Health of one window of 1024 samples of f(i), cut off at +-limit.
template <typename F>
WindowHealth health_of(F f, double limit) {
  static int16_t memory[1024];
  Window window;
  window.open(memory, 1024, 1024, 1);
  for (int i = 0; i < 1024; ++i) {
    const double v = std::fmax(-limit, std::fmin(limit, f(i)));
    const int16_t x = static_cast<int16_t>(std::lrint(v));
    (void)push(window, &x);
  }
  return health_of(window);
}

}  // namespace

TEST_CASE("a signal that is cut off anywhere is told from one that only turns there") {
  std::mt19937 random(1);
  std::normal_distribution<double> noise(0, 1000);
  const auto gauss = [&](int) { return noise(random); };
  const auto sine = [](int i) { return 1000 * std::sin(0.01234 * i); };
  const auto small = [&](int) { return noise(random) / 500; };
  for (int i = 0; i < 50; ++i) {
    CHECK(health_of(gauss, 32767).flattened == 0);
    CHECK(health_of(gauss, 1500).flattened == 1);
    CHECK(health_of(small, 32767).flattened == 0);  // a few counts: no verdict
  }
  CHECK(health_of(sine, 32767).flattened == 0);
  CHECK(health_of(sine, 900).flattened == 1);
}

TEST_CASE("a sensor that hangs for a part of the window is seen, one repeated value is not") {
  const auto ramp = [](int i) { return double(i % 7); };
  CHECK(health_of(ramp, 32767).frozen == 0);
  CHECK(health_of([&](int i) { return ramp(i >= 300 && i < 500 ? 300 : i); }, 32767).frozen == 199);
  // Where the ring begins does not matter.
  int16_t memory[8];
  Window window;
  window.open(memory, 8, 1, 1);
  for (const int16_t x : {1, 2, 3, 4, 5, 6, 6, 6, 6, 7}) (void)push(window, &x);
  CHECK(health_of(window).frozen == 3);
}
