// Sampling of early windows, distances from them, re-calibration within its budget.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernel/fixed_log.h"
#include "runtime/learn/guard.h"
#include "runtime/learn/neighbours.h"
#include "runtime/learn/reservoir.h"
#include "runtime/learn/stored.h"

using namespace kilotune;

namespace {

constexpr uint16_t kFeatures = 4;

// A calibration block in memory of exactly its size.
struct Block {
  Block(uint16_t capacity, uint8_t early)
      : words(AdapterView::bytes(kFeatures, kFeatures, capacity, early) / 4),
        view(reinterpret_cast<uint8_t*>(words.data()), kFeatures, kFeatures, capacity, early) {
    for (uint32_t i = 0; i < kFeatures; ++i) view.feature_scale()[i] = 4096;
  }
  void set(uint32_t slot, int8_t value) { std::memset(view.entry(slot), value, kFeatures); }

  std::vector<uint32_t> words;
  AdapterView view;
};

Profile profile_of(int32_t zero_point, int32_t sigma) {
  Profile p;
  p.zero_point = zero_point;
  p.sigma_lsb = sigma;
  return p;
}

Trend trend_of(std::vector<int16_t>& means, int16_t value, uint32_t windows) {
  means.assign(kFeatures, 0);
  Trend trend;
  trend.open(means.data());
  trend.begin(kAgeMemory);
  for (uint32_t w = 0; w < windows; ++w) {
    trend.next();
    for (uint32_t i = 0; i < kFeatures; ++i) trend.add(i, value);
  }
  return trend;
}

bool drifts(const Profile& profile, const AdapterView& view, const int8_t* x) {
  Offered sum = {};
  return offer_drifted(profile, view, x, sum);
}

}  // namespace

TEST_CASE("every held-back window of the first phase is kept as an early one equally often") {
  constexpr uint32_t kWindows = 160, kSeeds = 4000, kEarly = 4;
  std::vector<uint32_t> kept(kWindows);
  for (uint32_t seed = 0; seed < kSeeds; ++seed) {
    Block block(8, kEarly);
    Reservoir reservoir;
    reservoir.begin(&block.view, 8, 2, seed);
    uint32_t holder[kEarly] = {};
    for (uint32_t w = 0; w < kWindows; ++w) {
      const Reservoir::Places places = reservoir.offer(0);
      if (places.early < 0) continue;
      REQUIRE(w % 8 >= 6);  // never one that may be learned from
      holder[static_cast<uint32_t>(places.early) - reservoir.first_early()] = w;
    }
    REQUIRE(reservoir.early() == kEarly);
    for (const uint32_t w : holder) ++kept[w];
  }
  // 4 of 40, 4,000 times: 400 each, standard deviation 19.
  for (uint32_t w = 0; w < kWindows; ++w) {
    if (w % 8 < 6) CHECK(kept[w] == 0);
    if (w % 8 >= 6) CHECK(std::abs(int(kept[w]) - 400) < 100);
  }
}

TEST_CASE("early windows change nothing about where the others go") {
  Block with(12, 5), without(12, 0);
  Reservoir a, b;
  a.begin(&with.view, 8, 2, 7);
  b.begin(&without.view, 8, 2, 7);
  for (int w = 0; w < 500; ++w) CHECK(a.offer(0).slot == b.offer(0).slot);
  CHECK(b.early() == 0);
}

TEST_CASE("a later phase takes no early windows and replaces at most half of each share") {
  Block block(16, 4);
  Reservoir reservoir;
  reservoir.begin(&block.view, 8, 2, 1);
  for (int w = 0; w < 16; ++w) (void)reservoir.offer(0);
  reservoir.set_calibrated();
  reservoir.resume(8, 2, 2, true);
  for (int w = 0; w < 2000; ++w) CHECK(reservoir.offer(0).early < 0);
  uint32_t learned = 0, held = 0;
  for (uint32_t s = 0; s < reservoir.learned(); ++s) learned += block.view.labels()[s] == kFresh;
  for (uint32_t s = 0; s < reservoir.held(); ++s) {
    held += block.view.labels()[reservoir.first_held() + s] == kFresh;
  }
  CHECK(learned == 6);
  CHECK(held == 2);
  reservoir.resume(8, 2, 3, true);  // the next phase tells them from its own
  uint32_t later = 0;
  for (uint32_t s = 0; s < 16; ++s) {
    CHECK(block.view.labels()[s] != kFresh);
    later += block.view.labels()[s] == kLater;
  }
  CHECK(later == 8);
}

TEST_CASE("the nearest slots are found, without the one that is left out") {
  Block block(5, 0);
  const int8_t values[] = {50, 10, 30, 11, -90};
  for (uint32_t s = 0; s < 5; ++s) block.set(s, values[s]);
  const Neighbours found = nearest_slots(block.view, block.view.entry(1), {0, 5, 1}, 2);
  REQUIRE(found.count == 2);
  CHECK(found.slot[0] == 3);
  CHECK(found.slot[1] == 2);
  CHECK(found.mean_distance == (kFeatures * 1 + kFeatures * 400) / 2);
  CHECK(nearest_slots(block.view, block.view.entry(0), {0, 1, 0}, 2).count == 0);
}

TEST_CASE("a window is as new as its distance from the nearest stored one, over that one's own") {
  Block block(16, 4);
  Reservoir reservoir;
  reservoir.begin(&block.view, 8, 2, 1);
  for (int w = 0; w < 16; ++w) (void)reservoir.offer(0);
  for (uint32_t s = 0; s < 20; ++s) block.set(s, static_cast<int8_t>(12 * s - 120));
  const auto newness = [&](int value) {
    int8_t x[kFeatures];
    std::memset(x, value, kFeatures);
    return newness_q10(block.view, reservoir, x);
  };
  // Learned windows lie 12 apart; held-back (24 to 60) and early ones (72 to 108) count too.
  for (const int value : {-108, -60, 0}) CHECK(newness(value) == -log2_q10(4 * 144 + 1));
  for (const int value : {24, 60, 72, 108}) CHECK(newness(value) < -8 * 1024);
  CHECK(newness(-60 + 3) == log2_q10(4 * 9 + 1) - log2_q10(4 * 144 + 1));
  CHECK(newness(-60 + 6) == doctest::Approx(-2048).epsilon(0.02));
  reservoir.begin(&block.view, 8, 2, 1);
  CHECK(newness(-120) == 0);  // nothing is stored
}

TEST_CASE("all cautious phases together fill at most half of each share") {
  Block block(16, 0);
  Reservoir reservoir;
  reservoir.begin(&block.view, 8, 2, 1);
  for (int w = 0; w < 16; ++w) (void)reservoir.offer(0);
  reservoir.set_calibrated();
  for (uint32_t phase = 0; phase < 20; ++phase) {
    reservoir.resume(8, 2, phase, true);
    for (int w = 0; w < 40; ++w) (void)reservoir.offer(0);
    const uint8_t* labels = block.view.labels();
    const auto first = [&](uint32_t from, uint32_t n) {
      return std::count(labels + from, labels + from + n, kFirst);
    };
    CHECK(reservoir.learned() == 12);
    CHECK(reservoir.held() == 4);
    CHECK(first(0, 12) >= 6);
    CHECK(first(12, 4) >= 2);
    if (phase == 19) CHECK(first(0, 12) == 6);
  }
}

TEST_CASE("a share that the first phase has not filled holds only what was stored") {
  Block block(16, 0);
  Reservoir reservoir;
  reservoir.begin(&block.view, 8, 2, 1);
  for (int w = 0; w < 6; ++w) (void)reservoir.offer(0);  // all of them to learn from
  reservoir.set_calibrated();
  uint32_t stored = 6;
  reservoir.resume(8, 2, 7, true);
  for (int w = 0; w < 40; ++w) {
    const Reservoir::Places places = reservoir.offer(0);
    const uint32_t filled = reservoir.learned() + reservoir.held();
    CHECK(filled - stored <= (places.slot >= 0 ? 1u : 0u));
    stored = filled;
  }
  CHECK(reservoir.learned() == 12);
  CHECK(reservoir.held() == 2);
}

TEST_CASE("a window drifts by its distance from the first calibration or from the early windows") {
  Block block(4, 4);
  const Profile profile = profile_of(5, 20);
  for (uint32_t s = 0; s < 4; ++s) block.set(4 + s, static_cast<int8_t>(20 + s));
  const int8_t near[] = {21, 21, 21, 21}, opposite[] = {-11, -11, -11, -11},
               far[] = {90, 90, 90, 90};
  CHECK(std::abs(origin_distance(profile, block.view, near) - 8 * 1024) <= 1);  // 16^2
  CHECK(std::abs(origin_distance(profile, block.view, opposite) - 8 * 1024) <= 1);
  CHECK_FALSE(drifts(profile, block.view, far));  // no limits were measured yet
  CalibrationHead head;
  head.origin = 1;
  head.origin_limit = 9 * 1024;
  head.early = 4;
  head.early_limit = 4 * 1024;
  block.view.set_head(head);
  CHECK_FALSE(drifts(profile, block.view, near));
  CHECK(drifts(profile, block.view, opposite));  // as near to the mean, but far from them all
  CHECK(drifts(profile, block.view, far));
  head.early = kLeastEarly - 1;
  block.view.set_head(head);
  CHECK_FALSE(drifts(profile, block.view, opposite));
}

TEST_CASE("the shift of a phase is 0 where its windows lie as the early ones, 1024 at the limits") {
  Block block(4, 4);
  const Profile profile = profile_of(0, 20);
  // Pairs at opposite places: each has one neighbour at distance 0 and one at 2 * 16.
  for (uint32_t s = 0; s < 4; ++s) block.set(4 + s, s % 2 == 0 ? 16 : -16);
  CalibrationHead head;
  head.origin = 1;
  head.origin_limit = 10 * 1024;  // 32^2; the early windows lie at 16^2
  head.early = 4;
  head.early_limit = 11 * 1024;  // they lie at (0 + 32^2) / 2 = 2^9
  block.view.set_head(head);
  Offered none = {1, 0, 8 * 1024, 9 * 1024, 0}, full = {3, 0, 30 * 1024, 33 * 1024, 0};
  CHECK(std::abs(shift_q10(profile, block.view, none)) <= 4);
  CHECK(std::abs(shift_q10(profile, block.view, full) - 1024) <= 4);
  Offered sum = {};
  const int8_t far[] = {100, 100, 100, 100};
  for (int w = 0; w < 3; ++w) {
    CHECK(offer_drifted(profile, block.view, far, sum));
    ++sum.windows;
  }
  CHECK(sum.origin == 3 * origin_distance(profile, block.view, far));
  CHECK(sum.early == 3 * early_distance(block.view, far, 4, kNoSlot));
}

TEST_CASE("re-calibration follows in small steps and stops at its budget") {
  Block block(4, 4);
  const Profile profile = profile_of(0, 32);
  std::vector<int16_t> means;
  // The machine always runs 2 sigma away: 1/16 sigma a phase, until a quarter in all.
  const Trend trend = trend_of(means, 64 * 64, 40);
  int phases = 0;
  while (phases < 20 && follow_age(profile, block.view, trend)) ++phases;
  CHECK(phases == 4);
  CHECK(aged_permille(profile, block.view) == 250);
  CHECK(block.view.feature_mean()[0] == 256);  // 8 steps of 1/32 sigma, 1.0 log2 a sigma, in Q10
  // Back again costs nothing.
  const Trend back = trend_of(means, -64 * 64, 40);
  CHECK(follow_age(profile, block.view, back));
  CHECK(aged_permille(profile, block.view) == 187);
}

TEST_CASE("a trend is a plain mean first and forgets later") {
  std::vector<int16_t> means;
  CHECK(trend_of(means, 1000, 3).mean(0) == 1000);
  Trend trend = trend_of(means, 0, 200);
  for (int w = 0; w < 64; ++w) {
    trend.next();
    trend.add(0, 6400);
  }
  CHECK(trend.mean(0) == doctest::Approx(6400 * (1 - std::exp(-1.0))).epsilon(0.02));
}

TEST_CASE("a machine that moved while it was learned is called unsteady, in sigma") {
  Block block(4, 4);
  std::vector<int16_t> means;
  CHECK(unsteadiness(block.view, trend_of(means, 0, 20)) == 0);
  CHECK(unsteadiness(block.view, trend_of(means, 512, 20)) == 500);  // Q10 over one log2 a sigma
}
