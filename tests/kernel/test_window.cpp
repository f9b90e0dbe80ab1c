// When windows are complete, which sample is the oldest, and what the gate is told.
#include <doctest/doctest.h>

#include <vector>

#include "runtime/window.h"

using namespace kilotune;

TEST_CASE("windows are complete after `window` frames and then every `hop`") {
  std::vector<int16_t> memory(2 * 8);
  Window window;
  window.open(memory.data(), 8, 3, 2);
  CHECK(Window::bytes(8, 2) == memory.size() * 2);
  int complete = 0;
  for (int i = 0; i < 30; ++i) {
    const int16_t frame[2] = {static_cast<int16_t>(i), static_cast<int16_t>(-i)};
    const bool now = window.push(frame);
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
  for (int i = 0; i < 6; ++i) (void)window.push(&x);
  window.reset();
  for (int i = 0; i < 3; ++i) CHECK_FALSE(window.push(&x));
  CHECK(window.push(&x));
}

TEST_CASE("health counts clipped samples and names constant axes") {
  int16_t memory[3 * 4];
  Window window;
  window.open(memory, 4, 4, 3);
  const int16_t frames[4][3] = {{32767, 7, 1}, {-32768, 7, 1}, {-32767, 7, 2}, {32766, 7, 1}};
  for (int i = 0; i < 4; ++i) CHECK(window.push(frames[i]) == (i == 3));
  CHECK(window.health().clipped == 3);
  CHECK(window.health().constant == 2);
}

TEST_CASE("the fingerprint is that of the samples in order, wherever the ring begins") {
  int16_t a[5], b[5];
  Window early, late;
  early.open(a, 5, 5, 1);
  late.open(b, 5, 1, 1);
  const int16_t x[8] = {9, 9, 9, 1, 2, 3, 4, 5};
  for (int i = 3; i < 8; ++i) (void)early.push(&x[i]);
  for (int i = 0; i < 8; ++i) (void)late.push(&x[i]);
  CHECK(early.health().fingerprint == late.health().fingerprint);
  for (int bit = 0; bit < 16; ++bit) {
    a[2] = static_cast<int16_t>(a[2] ^ (1 << bit));
    CHECK(early.health().fingerprint != late.health().fingerprint);
    a[2] = static_cast<int16_t>(a[2] ^ (1 << bit));
  }
}
