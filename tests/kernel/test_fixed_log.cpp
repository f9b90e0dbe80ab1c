// Fixed-point logarithms against the C library's.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "kernel/fixed_log.h"

using namespace kilotune;

TEST_CASE("log2 is exact at powers of two and close between them") {
  for (int e = 0; e < 64; ++e) CHECK(log2_q16(1ull << e) == e * 65536);
  std::mt19937_64 random(1);
  for (int i = 0; i < 100000; ++i) {
    const uint64_t v = random() >> (random() % 64);
    if (v == 0) continue;
    const double error = log2_q16(v) / 65536.0 - std::log2(static_cast<double>(v));
    CHECK(error <= 1.0 / 32768);
    CHECK(error >= -2.1e-4);
  }
}

TEST_CASE("log2 never falls as its argument grows") {
  int32_t last = 0;
  for (uint64_t v = 1; v < 200000; ++v) {
    const int32_t now = log2_q16(v);
    REQUIRE(now >= last);
    last = now;
  }
}

TEST_CASE("exp2 undoes log2") {
  for (uint32_t f = 0; f < 65536; f += 7) {
    const int32_t back = log2_q16(exp2_q31(f)) - 31 * 65536;
    CHECK(std::abs(back - static_cast<int32_t>(f)) <= 1);
  }
}

TEST_CASE("the sum of an energy and a floor is right over the whole range") {
  std::mt19937_64 random(2);
  for (int i = 0; i < 100000; ++i) {
    const uint64_t sum = random() >> (1 + random() % 63);
    const int scale = static_cast<int>(random() % 120) - 90,
              floor = static_cast<int>(random() % 60) - 40;
    const double sum_log = std::log2(static_cast<double>(sum)) + scale;
    // Below one unit of the sum the floor is dropped: not more than it is worth.
    const double lost =
        sum == 0 ? 0 : std::log2(1 + std::exp2(-std::log2(static_cast<double>(sum))));
    const double want = sum == 0 ? floor
                                 : std::fmax(sum_log, floor) +
                                       std::log2(1 + std::exp2(-std::fabs(sum_log - floor)));
    const double got = log2_above_floor_q16(sum, scale * 65536, floor * 65536) / 65536.0;
    REQUIRE(got - want <= 1e-4);
    REQUIRE(got - want >= -3e-4 - lost);
  }
}

TEST_CASE("silence measures exactly the floor") {
  CHECK(log2_above_floor_q16(0, 12345, -777) == -777);
}
