// The integer FFT against the definition, in double.
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "feature_section.h"
#include "runtime/signal/fft.h"

using namespace kilotune;
using kilotune_test::kPi;

namespace {

// Every halving rounds down by less than one unit: at most 11 of them, and one for the twiddles.
constexpr double kBound = 12;

std::vector<int32_t> quarter_wave(uint32_t points) {
  std::vector<int32_t> sine(points / 4 + 1);
  for (uint32_t k = 0; k < sine.size(); ++k)
    sine[k] = kilotune_test::to_q31(std::sin(2 * kPi * k / points));
  return sine;
}

// Largest distance of any part of any bin from the definition, in units of the output.
double worst_error(const std::vector<int32_t>& x) {
  const auto points = static_cast<uint32_t>(x.size());
  std::vector<int32_t> got(points);
  for (uint32_t i = 0; i < points; ++i) got[2 * fft_place(i / 2, points) + i % 2] = x[i];
  fft_real(got.data(), points, quarter_wave(points).data());
  double worst = 0;
  for (uint32_t k = 0; k <= points / 2; ++k) {
    double re = 0, im = 0;
    for (uint32_t i = 0; i < points; ++i) {
      const double angle = 2 * kPi * ((k * i) % points) / points;
      re += x[i] * std::cos(angle);
      im -= x[i] * std::sin(angle);
    }
    const bool packed = k == 0 || k == points / 2;
    const double got_re = k == points / 2 ? got[1] : got[2 * k],
                 got_im = packed ? 0 : got[2 * k + 1];
    worst = std::fmax(worst,
                      std::fmax(std::fabs(got_re - re / points), std::fabs(got_im - im / points)));
  }
  return worst;
}

}  // namespace

TEST_CASE("every bin of random samples is right to a few units of 2^-29") {
  std::mt19937 random(3);
  std::uniform_int_distribution<int32_t> sample(-(1 << 29) + 1, (1 << 29) - 1);
  for (uint32_t points = 64; points <= 2048; points *= 2) {
    std::vector<int32_t> x(points);
    for (int32_t& v : x) v = sample(random);
    CHECK(worst_error(x) < kBound);
  }
}

TEST_CASE("full-scale signals do not overflow") {
  constexpr int32_t kTop = (1 << 29) - 1;
  for (uint32_t points = 64; points <= 2048; points *= 2) {
    for (uint32_t period = 1; period <= points; period *= 2) {
      std::vector<int32_t> square(points);
      for (uint32_t i = 0; i < points; ++i) square[i] = (i / period) % 2 == 0 ? kTop : -kTop;
      CHECK(worst_error(square) < kBound);
    }
    std::vector<int32_t> constant(points, kTop), impulse(points, 0);
    impulse[1] = kTop;
    CHECK(worst_error(constant) < kBound);
    CHECK(worst_error(impulse) < kBound);
  }
}

TEST_CASE("full-scale complex phases, the worst case of the range proof, do not overflow") {
  constexpr int32_t kTop = (1 << 29) - 1;
  std::mt19937 random(4);
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<int32_t> x(256);
    for (int32_t& v : x) v = random() % 2 == 0 ? kTop : -kTop;
    CHECK(worst_error(x) < kBound);
  }
}
