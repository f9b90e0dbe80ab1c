// What a device does about time: records, persistence, drifts, when phases are due.
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "kernel/bytes.h"
#include "runtime/learn/life.h"
#include "runtime/learn/reservoir.h"

using namespace kilotune;

namespace {

constexpr LifeConfig kConfig = {3, 5, 4, 10, 64};
constexpr int32_t kLimit = 500;

Life born() {
  Life life;
  life.open(kConfig);
  life.begin(1);
  return life;
}

bool record(Life& life, int32_t score, int32_t far = 0) {
  while (!life.full()) {
    if (life.next_window()) life.judge(score, far);
  }
  return life.end_record(kLimit);
}

void first_records(Life& life) {
  for (uint32_t r = 0; r < kConfig.first; ++r) {
    while (!life.full()) CHECK(life.next_window());
    life.end_first_record();
  }
  life.begin_phase();
}

// Lives with records of one score until watching begins.
Life settled(int32_t score = 100) {
  Life life = born();
  first_records(life);
  while (!life.watches()) {
    record(life, score);
    if (life.due()) life.begin_phase();
  }
  return life;
}

}  // namespace

TEST_CASE("phases are due when the age has grown by a quarter") {
  Life life = born();
  CHECK_FALSE(life.due());
  first_records(life);
  std::vector<uint32_t> ages;
  for (uint32_t r = 0; r < 90; ++r) {
    record(life, 0);
    if (!life.due()) continue;
    ages.push_back(life.state().age);
    life.begin_phase();
  }
  CHECK(ages == std::vector<uint32_t>{13, 16, 20, 25, 31, 39, 49, 61, 76, 95});
}

TEST_CASE("a year takes fewer than 60 phases, however dense its records are") {
  const auto phases_until = [](uint32_t age) {
    Life life = born();
    first_records(life);
    while (life.state().due <= age) {
      // Every phase finds one record; those before it make no difference to when the next is due.
      uint8_t head[kLifeHeadBytes];
      life.save(head);
      store_u32(head, life.state().due - 1);
      life.load(head);
      record(life, 0);
      REQUIRE(life.due());
      life.begin_phase();
    }
    return life.state().phases;
  };
  constexpr uint32_t kMinutes = 525600;
  CHECK(phases_until(kMinutes) == 39);
  CHECK(phases_until(60 * kMinutes) == 49);
  CHECK(phases_until(10 * 60 * kMinutes) == 55);  // 20 kHz, 4 windows of 512 new samples a record
}

TEST_CASE("of a long record four windows are judged, evenly spaced") {
  Life life;
  life.open({1, 1, 10, 10});
  life.begin(1);
  std::vector<uint32_t> judged;
  for (uint32_t w = 0; !life.full(); ++w) {
    if (life.next_window()) judged.push_back(w);
  }
  CHECK(judged == std::vector<uint32_t>{0, 3, 6, 9});
}

TEST_CASE("every fourth record is held back, whole") {
  Life life = born();
  first_records(life);
  for (uint32_t r = 0; r < 12; ++r) {
    CHECK(life.holds_back() == (life.state().age % 4 == 3));
    record(life, 0);
  }
}

TEST_CASE("the allowance is one and a half times the most that the last three phases drifted") {
  Life life = born();
  first_records(life);
  CHECK(life.state().allowance == 1536);  // nothing known yet: 1 log2
  const int32_t scores[] = {-300, 400, 700, 100, 100, 100};
  const int32_t allowances[] = {1536, 600, 1050, 1050, 1050, 150};
  for (uint32_t p = 0; p < 6; ++p) {
    while (!life.due()) record(life, scores[p]);
    life.begin_phase();
    CHECK(life.state().drift[0] == (scores[p] > 0 ? scores[p] : 0));
    CHECK(life.state().allowance == allowances[p]);
  }
}

TEST_CASE("the drift is the 60 % quantile of medians") {
  Life life = born();
  first_records(life);
  // Medians 0, 100, 200: position 1.2 of 0 to 2.
  for (int32_t r = 0; r < 3; ++r) record(life, 100 * r);
  REQUIRE(life.due());
  life.begin_phase();
  CHECK(life.state().drift[0] == 120);
}

TEST_CASE("a machine that drifts by more than 1 log2 a phase is not watched") {
  Life life = born();
  first_records(life);
  for (uint32_t r = 0; r < 200; ++r) {
    CHECK_FALSE(record(life, 1100));
    if (life.due()) life.begin_phase();
  }
  CHECK_FALSE(life.watches());
  CHECK(life.state().alarm == 0);
  while (!life.watches()) {
    record(life, 900);
    if (life.due()) life.begin_phase();
  }
  CHECK(life.state().settled == life.state().age);
}

TEST_CASE("watching begins at twice the first phase, at the earliest") {
  CHECK(settled().state().settled == 20);
}

TEST_CASE("an alarm needs three of five records and says since when and why") {
  Life life = settled();
  CHECK(record(life, kLimit + 1));
  CHECK_FALSE(life.learns());
  CHECK_FALSE(record(life, kLimit));
  CHECK(life.learns());
  CHECK(record(life, kLimit + 1));
  CHECK(life.state().alarm == 0);
  CHECK(record(life, kLimit + 1));
  CHECK(life.state().alarm == life.state().age);
  CHECK(life.state().causes == kThreshold);
  const uint32_t since = life.state().alarm;
  record(life, 0);
  CHECK(life.state().alarm == since);
  record(life, 0);
  CHECK(life.state().alarm == 0);
  CHECK(life.state().causes == 0);
}

TEST_CASE("far from the anchor is an alarm whatever has been learned since") {
  Life life = settled();
  CHECK_FALSE(record(life, 0, kConfig.anchor * 64 + 1));
  REQUIRE(life.wants_anchor());
  life.set_anchor(-77);
  CHECK_FALSE(life.wants_anchor());
  CHECK_FALSE(record(life, 0, kConfig.anchor * 64));
  for (uint32_t r = 0; r < 3; ++r) CHECK(record(life, 0, kConfig.anchor * 64 + 1));
  CHECK(life.state().alarm != 0);
  CHECK(life.state().causes == kAnchor);
}

TEST_CASE("an alarm rule by command takes the place of the image's") {
  Life life = settled();
  CHECK_FALSE(life.set_rule(0, 3));
  CHECK_FALSE(life.set_rule(4, 3));
  CHECK_FALSE(life.set_rule(9, 9));
  CHECK(life.alarmed() == kConfig.alarmed);
  CHECK(life.set_rule(1, 2));
  CHECK(record(life, kLimit + 1));
  CHECK(life.state().alarm != 0);
  CHECK_FALSE(record(life, 0));
  CHECK(life.state().alarm != 0);
  CHECK_FALSE(record(life, 0));
  CHECK(life.state().alarm == 0);
}

TEST_CASE("an alarm that is normal is learned from, up to 1 log2 above it") {
  Life life = settled();
  CHECK_FALSE(life.accept());
  const int16_t bands[kToldBands] = {7, -2, 1};
  life.tell_bands(bands);
  for (uint32_t r = 0; r < 3; ++r) CHECK(record(life, kLimit + 100));
  CHECK(life.state().bands[0] == 7);
  const uint32_t age = life.state().age;
  CHECK(life.accept());
  CHECK_FALSE(life.accept());
  CHECK(life.state().alarm == 0);
  CHECK(life.state().told == age);
  CHECK(life.state().due == age + kConfig.first);
  CHECK(life.learns());
  CHECK_FALSE(record(life, kLimit + 100 + kAccepted_q10));
  CHECK(record(life, kLimit + 101 + kAccepted_q10));
  CHECK(life.state().alarm_score == kLimit + 100);  // does not grow by what is worse
  while (life.accepting()) CHECK_FALSE(record(life, kLimit + 100));
  CHECK(record(life, kLimit + 100));  // no longer, though the phase has not begun
  life.set_anchor(5);
  const int16_t drift = life.state().drift[0];
  REQUIRE(life.due());
  life.begin_phase();
  CHECK(life.wants_anchor());
  CHECK(life.state().drift[1] == drift);  // measured by the record after it alone
  CHECK(life.state().normals == 1);
}

TEST_CASE("a fault ends the alarm and is not measured as drift") {
  Life life = settled();
  for (uint32_t r = 0; r < 3; ++r) record(life, 900);
  life.reject();
  CHECK(life.state().alarm == 0);
  CHECK(life.state().faults == 1);
  while (!life.due()) record(life, 100);
  life.begin_phase();
  CHECK(life.state().drift[0] == 100);
}

TEST_CASE("what is kept comes back, and nothing else is accepted") {
  Life life = settled();
  life.set_anchor(-77);
  for (uint32_t r = 0; r < 4; ++r) record(life, kLimit + 1);
  uint8_t kept[kLifeHeadBytes], again[kLifeHeadBytes];
  life.save(kept);
  CHECK(Life::accepts(kept));
  Life other;
  other.open(kConfig);
  other.load(kept);
  other.save(again);
  CHECK(std::memcmp(kept, again, sizeof kept) == 0);
  CHECK(other.state().alarm == life.state().alarm);
  const auto spoiled = [&](uint32_t at, uint8_t value) {
    std::memcpy(again, kept, sizeof kept);
    again[at] = value;
    return !Life::accepts(again);
  };
  CHECK(spoiled(3, 0xFF));  // an age that never comes
  CHECK(spoiled(32, 4));
  CHECK(spoiled(34, 2));
  CHECK(spoiled(35, 2));
  CHECK(spoiled(37, 1));  // a rule of 1 in 0
  CHECK(spoiled(38, 9));
}

TEST_CASE("windows that wait can be dropped, and a full reservoir be opened for new ones") {
  constexpr uint16_t kFeatures = 4;
  std::vector<uint32_t> words(AdapterView::bytes(kFeatures, kFeatures, 16, 0, true) / 4);
  AdapterView view(reinterpret_cast<uint8_t*>(words.data()), kFeatures, kFeatures, 16, 0, true);
  Reservoir reservoir;
  reservoir.begin(&view, kHoldRecords, 1, 1);
  const auto offer = [&](uint32_t n, int8_t value, uint8_t label, bool hold) {
    for (uint32_t w = 0; w < n; ++w) {
      const Reservoir::Places places = reservoir.offer_of_record(label, hold);
      if (places.slot >= 0)
        std::memset(view.entry(static_cast<uint32_t>(places.slot)), value, kFeatures);
    }
  };
  offer(1200, 1, 0, false);
  offer(4, 1, 0, true);
  offer(1200, 2, kWaiting, false);
  offer(4, 2, kWaiting, true);
  REQUIRE(reservoir.learned() == 12);
  CalibrationHead head;
  reservoir.save(head);
  CHECK(head.learned_seen == 2400);
  reservoir.drop_waiting();
  reservoir.save(head);
  CHECK(reservoir.learned() < 12);
  CHECK(head.learned_seen == 2400 * reservoir.learned() / 12);
  for (uint32_t s = 0; s < reservoir.learned(); ++s) CHECK(view.entry(s)[0] == 1);
  CHECK(reservoir.held() >= 1);

  offer(100, 1, 0, false);
  reservoir.make_room();
  reservoir.save(head);
  CHECK(head.learned_seen == 12);
  offer(12, 3, 0, false);
  uint32_t fresh = 0;
  for (uint32_t s = 0; s < 12; ++s) fresh += view.entry(s)[0] == 3 ? 1 : 0;
  CHECK(fresh >= 3);
  CHECK(fresh <= 9);
}

TEST_CASE("windows of an alarmed record leave the reservoir, and its sample stays unbiased") {
  constexpr uint16_t kFeatures = 4;
  std::vector<uint32_t> words(AdapterView::bytes(kFeatures, kFeatures, 16, 0, true) / 4);
  AdapterView view(reinterpret_cast<uint8_t*>(words.data()), kFeatures, kFeatures, 16, 0, true);
  Reservoir reservoir;
  reservoir.begin(&view, kHoldRecords, 1, 1);
  const auto offer = [&](int8_t value, bool hold) {
    for (uint32_t w = 0; w < 4; ++w) {
      const Reservoir::Places places = reservoir.offer_of_record(kPending, hold);
      if (places.slot >= 0)
        std::memset(view.entry(static_cast<uint32_t>(places.slot)), value, kFeatures);
    }
  };
  offer(1, false);
  reservoir.end_record(true);
  offer(2, true);
  reservoir.end_record(true);
  offer(3, false);
  reservoir.end_record(false);
  CHECK(reservoir.learned() == 4);
  CHECK(reservoir.held() == 4);
  for (uint32_t s = 0; s < 4; ++s) {
    CHECK(view.entry(s)[0] == 1);
    CHECK(view.labels()[s] == kWaiting);
    CHECK(view.entry(reservoir.first_held() + s)[0] == 2);
  }
  CalibrationHead head;
  reservoir.save(head);
  CHECK(head.learned_seen == 4);
  CHECK(head.held_seen == 4);
  reservoir.set_calibrated();
  for (uint32_t s = 0; s < 4; ++s) CHECK(view.labels()[s] == kFirst);
}
