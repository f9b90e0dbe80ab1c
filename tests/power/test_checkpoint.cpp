// The checkpoint store on NOR flash that tears: power is cut at every program and erase of a life.
#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "kernel/bytes.h"
#include "nor_flash.h"
#include "runtime/checkpoint.h"

namespace kilotune::testing {
namespace {

using Payload = std::vector<uint8_t>;
constexpr uint8_t kImage[32] = {1, 2, 3};
constexpr uint8_t kOtherImage[32] = {9, 8, 7};

struct Case {
  const char* name;
  Geometry geometry;
  uint32_t payload_bytes;
};
const Case kCases[] = {
    {"three slots of one 1 KB sector, 4-byte words", {1024, 3, 4}, 301},
    {"four slots of three 128-byte sectors, 2-byte words", {128, 13, 2}, 203},
    {"eight 512-byte pages, 8-byte words", {512, 8, 8}, 411},
    {"five sectors, 16-byte words", {512, 5, 16}, 415},
    {"three sectors, single bytes", {256, 3, 1}, 101},
};

Payload payload_of(uint32_t number, uint32_t bytes) {
  Payload p(bytes);
  std::mt19937 random(number);
  for (uint8_t& b : p) b = static_cast<uint8_t>(random());
  return p;
}

// What a mounted store holds: the current payload, and the one that a rollback would bring back.
struct State {
  Payload current;
  bool has_previous = false;
  uint32_t windows = 0;
  bool operator==(const State& o) const {
    return current == o.current && has_previous == o.has_previous && windows == o.windows;
  }
};

State state_of(NorFlash& flash, uint32_t payload_bytes) {
  const Flash port = flash.port();
  CheckpointStore store;
  REQUIRE(store.mount(&port, kImage, payload_bytes) == Status::ok);
  State s;
  if (store.payload() != nullptr) {
    s.current.assign(store.payload(), store.payload() + payload_bytes);
    REQUIRE(store.current().crc == crc32(store.payload(), payload_bytes));
  }
  s.has_previous = store.has_previous();
  s.windows = store.current().windows;
  return s;
}

// Not the bare macro: that would swallow the exception of a power cut.
void require(Status got, Status wanted) { REQUIRE(got == wanted); }

enum class Action { commit, rollback, push, abandoned_push, remount };

void push(CheckpointStore& store, const Payload& p, uint32_t number, bool finish) {
  require(store.begin(number, number), Status::ok);
  const uint32_t n = static_cast<uint32_t>(p.size());
  const uint32_t stop = finish ? n : n / 2;
  for (uint32_t off = 0; off < stop; off += 37) {
    const uint32_t piece = off + 37 < stop ? 37 : stop - off;
    require(store.append(off, p.data() + off, piece), Status::ok);
    require(store.append(off, p.data() + off, piece), Status::ok);  // a repeated piece
  }
  if (finish) require(store.seal(crc32(p.data(), n)), Status::ok);
}

// One action of a life; `number` makes its payload.
void act(CheckpointStore& store, const Flash& port, Action action, uint32_t number,
         uint32_t bytes) {
  const Payload p = payload_of(number, bytes);
  switch (action) {
    case Action::commit:
      require(store.commit(p.data(), number, number), Status::ok);
      break;
    case Action::rollback: {
      const Status expected = store.has_previous() ? Status::ok : Status::no_checkpoint;
      require(store.rollback(), expected);
      break;
    }
    case Action::push:
      push(store, p, number, true);
      break;
    case Action::abandoned_push:
      push(store, p, number, false);
      break;
    case Action::remount:
      require(store.mount(&port, kImage, bytes), Status::ok);
      break;
  }
}

const Action kLife[] = {
    Action::rollback,       Action::commit, Action::commit,   Action::rollback, Action::commit,
    Action::abandoned_push, Action::push,   Action::remount,  Action::rollback, Action::rollback,
    Action::commit,         Action::push,   Action::commit,   Action::remount,  Action::commit,
    Action::rollback,       Action::push,   Action::rollback, Action::commit,   Action::commit,
};

// The states before and after each action of an undisturbed life, and when each one starts.
struct Reference {
  std::vector<State> states;         // states[i] before action i
  std::vector<uint64_t> operations;  // flash operations done before action i
};

Reference undisturbed(const Case& c) {
  NorFlash flash(c.geometry);
  const Flash port = flash.port();
  CheckpointStore store;
  REQUIRE(store.mount(&port, kImage, c.payload_bytes) == Status::ok);
  Reference r;
  uint32_t number = 1;
  for (const Action action : kLife) {
    r.states.push_back(state_of(flash, c.payload_bytes));
    r.operations.push_back(flash.operations);
    act(store, port, action, number++, c.payload_bytes);
  }
  r.states.push_back(state_of(flash, c.payload_bytes));
  r.operations.push_back(flash.operations);
  CHECK_FALSE(flash.misused);
  return r;
}

// Lives until the cut; the number of the action in which it came.
uint32_t live_until_cut(NorFlash& flash, const Case& c) {
  const Flash port = flash.port();
  CheckpointStore store;
  uint32_t i = 0;
  try {
    require(store.mount(&port, kImage, c.payload_bytes), Status::ok);
    for (; i < std::size(kLife); ++i) act(store, port, kLife[i], i + 1, c.payload_bytes);
  } catch (const PowerCut&) {
  }
  flash.power_on();
  return i;
}

TEST_CASE("a cut at any operation leaves the last committed or the one being committed") {
  for (const Case& c : kCases) {
    CAPTURE(std::string(c.name));
    const Reference reference = undisturbed(c);
    const uint64_t cuts = reference.operations.back();
    REQUIRE(cuts > 100);
    uint64_t wrong = 0;
    for (uint64_t cut = 0; cut < cuts; ++cut) {
      for (const Tear tear : {Tear::nothing, Tear::mixture, Tear::everything}) {
        NorFlash flash(c.geometry);
        flash.cut_at(cut, tear, static_cast<uint32_t>(cut));
        const uint32_t action = live_until_cut(flash, c);
        REQUIRE(action < std::size(kLife));
        const State found = state_of(flash, c.payload_bytes);
        const bool before = found == reference.states[action];
        const bool after = found == reference.states[action + 1];
        if (!before && !after) ++wrong;
        // The device goes on: the next commit works, and rolling it back gives what was found.
        const Flash port = flash.port();
        CheckpointStore store;
        REQUIRE(store.mount(&port, kImage, c.payload_bytes) == Status::ok);
        const Payload p = payload_of(1000, c.payload_bytes);
        REQUIRE(store.commit(p.data(), 1000, 0) == Status::ok);
        REQUIRE(state_of(flash, c.payload_bytes).current == p);
        REQUIRE(store.has_previous() == !found.current.empty());
        if (store.has_previous()) {
          REQUIRE(store.rollback() == Status::ok);
          REQUIRE(state_of(flash, c.payload_bytes).current == found.current);
        }
        if (flash.misused) ++wrong;
      }
    }
    CHECK(wrong == 0);
    MESSAGE(std::string(c.name) << ": " << cuts * 3 << " cuts");
  }
}

TEST_CASE("cuts in the recovery from a cut lose nothing either") {
  const Case& c = kCases[0];
  const Reference reference = undisturbed(c);
  std::mt19937 random(5);
  for (uint32_t round = 0; round < 3000; ++round) {
    NorFlash flash(c.geometry);
    flash.cut_at(random() % reference.operations.back(), Tear::mixture, round);
    live_until_cut(flash, c);
    State before = state_of(flash, c.payload_bytes);
    for (uint32_t again = 0; again < 4; ++again) {
      const Payload p = payload_of(2000 + again, c.payload_bytes);
      flash.cut_at(flash.operations + random() % 100, Tear::mixture,
                   static_cast<uint32_t>(random()));
      const Flash port = flash.port();
      CheckpointStore store;
      REQUIRE(store.mount(&port, kImage, c.payload_bytes) == Status::ok);
      try {
        require(store.commit(p.data(), again, 0), Status::ok);
        if (random() % 2 != 0 && store.has_previous()) require(store.rollback(), Status::ok);
      } catch (const PowerCut&) {
      }
      flash.power_on();
      const State found = state_of(flash, c.payload_bytes);
      REQUIRE((found.current == before.current || found.current == p));
      before = found;
    }
    REQUIRE_FALSE(flash.misused);
  }
}

struct Fixture {
  NorFlash flash{{512, 4, 4}};
  Flash port = flash.port();
  CheckpointStore store;
  static constexpr uint32_t kBytes = 100;
  Fixture() { REQUIRE(store.mount(&port, kImage, kBytes) == Status::ok); }
  void commit(uint32_t number) {
    const Payload p = payload_of(number, kBytes);
    REQUIRE(store.commit(p.data(), number, 2 * number) == Status::ok);
  }
  void expect(uint32_t number) {
    REQUIRE(store.mount(&port, kImage, kBytes) == Status::ok);
    REQUIRE(store.payload() != nullptr);
    CHECK(Payload(store.payload(), store.payload() + kBytes) == payload_of(number, kBytes));
    CHECK(store.current().windows == number);
    CHECK(store.current().steps == 2 * number);
  }
};

TEST_CASE_FIXTURE(Fixture, "an empty region has no checkpoint and refuses rollback unchanged") {
  CHECK(store.payload() == nullptr);
  CHECK(store.current().sequence == 0);
  CHECK(store.rollback() == Status::no_checkpoint);
  CHECK(flash.operations == 0);
}

TEST_CASE_FIXTURE(Fixture, "rollback returns to the previous one for good") {
  commit(1);
  CHECK(store.rollback() == Status::no_checkpoint);
  commit(2);
  REQUIRE(store.rollback() == Status::ok);
  expect(1);
  CHECK_FALSE(store.has_previous());
  CHECK(store.rollback() == Status::no_checkpoint);
  commit(3);
  REQUIRE(store.rollback() == Status::ok);
  expect(1);
}

TEST_CASE_FIXTURE(Fixture, "the sequence number wraps") {
  commit(1);
  const uint32_t sequence = 0xFFFFFFFEu;  // as if 2^32 - 2 commits had been made
  store_u32(flash.bytes().data() + 8, sequence);
  store_u32(flash.bytes().data() + 76, crc32(flash.bytes().data(), 76));
  REQUIRE(store.mount(&port, kImage, kBytes) == Status::ok);
  REQUIRE(store.current().sequence == sequence);
  for (uint32_t number = 2; number < 12; ++number) {
    commit(number);
    expect(number);
    CHECK(store.has_previous());
  }
  CHECK(store.current().sequence == 9);
}

TEST_CASE_FIXTURE(Fixture, "records of another image are ignored and do not outrank this one's") {
  for (uint32_t number = 1; number <= 3; ++number) commit(number);
  CheckpointStore other;
  REQUIRE(other.mount(&port, kOtherImage, kBytes) == Status::ok);
  CHECK(other.payload() == nullptr);
  const Payload p = payload_of(7, kBytes);
  REQUIRE(other.commit(p.data(), 7, 14) == Status::ok);
  expect(3);
  commit(4);
  expect(4);
  REQUIRE(other.mount(&port, kOtherImage, kBytes) == Status::ok);
  REQUIRE(other.payload() != nullptr);
  CHECK(Payload(other.payload(), other.payload() + kBytes) == p);
}

TEST_CASE_FIXTURE(Fixture, "a damaged payload or header falls back to the checkpoint before") {
  commit(1);
  commit(2);
  const std::vector<uint8_t> intact = flash.bytes();
  for (const uint32_t off : {512u + 8, 512u + 20, 512u + 77, 512u + 80, 512u + 96, 512u + 195}) {
    flash.bytes() = intact;
    flash.bytes()[off] ^= 4;
    port = flash.port();
    expect(1);
  }
}

TEST_CASE_FIXTURE(Fixture, "staging refuses gaps, changed repeats, excess and a wrong checksum") {
  commit(1);
  const Payload p = payload_of(2, kBytes);
  CHECK(store.append(0, p.data(), 4) == Status::wrong_state);
  CHECK(store.seal(0) == Status::wrong_state);
  REQUIRE(store.begin(2, 4) == Status::ok);
  CHECK(store.append(1, p.data(), 4) == Status::out_of_order);
  CHECK(store.append(0, p.data(), kBytes + 1) == Status::bad_argument);
  CHECK(store.append(0xFFFFFFFFu, p.data(), 4) == Status::bad_argument);
  REQUIRE(store.append(0, p.data(), 11) == Status::ok);
  CHECK(store.staged() == 11);
  Payload changed = p;
  changed[10] ^= 1;
  CHECK(store.append(5, changed.data() + 5, 20) == Status::bad_argument);
  CHECK(store.seal(crc32(p.data(), kBytes)) == Status::truncated);
  REQUIRE(store.append(5, p.data() + 5, kBytes - 5) == Status::ok);  // overlaps what was taken
  SUBCASE("right checksum") {
    REQUIRE(store.seal(crc32(p.data(), kBytes)) == Status::ok);
    expect(2);
  }
  SUBCASE("wrong checksum") {
    CHECK(store.seal(crc32(p.data(), kBytes) ^ 1) == Status::bad_crc);
    CHECK(store.seal(crc32(p.data(), kBytes)) == Status::wrong_state);
    expect(1);
  }
}

TEST_CASE_FIXTURE(Fixture, "a worn sector is reported and the next commit goes elsewhere") {
  commit(1);
  flash.wear_out(1);
  const Payload p = payload_of(2, kBytes);
  CHECK(store.commit(p.data(), 2, 4) == Status::flash_failed);
  CHECK(store.current().windows == 1);
  commit(3);
  expect(3);
  CHECK(store.has_previous());
}

TEST_CASE_FIXTURE(Fixture, "wear spreads over the slots and is counted") {
  for (uint32_t number = 1; number <= 400; ++number) commit(number);
  for (uint32_t sector = 0; sector < 4; ++sector) CHECK(flash.erases[sector] == 100);
  expect(400);
  CHECK(store.current().erases == 400);
}

TEST_CASE("a region without room for three slots is refused") {
  NorFlash flash({512, 5, 4});
  const Flash port = flash.port();
  CHECK(CheckpointStore::fits(port, 512 - 96));
  CHECK_FALSE(CheckpointStore::fits(port, 512 - 95));  // two sectors a slot, two slots
  CHECK_FALSE(CheckpointStore::fits(port, 0xFFFFFFFFu));
  CheckpointStore store;
  CHECK(store.mount(&port, kImage, 1000) == Status::unavailable);
  CHECK(store.mount(nullptr, kImage, 100) == Status::unavailable);
  const uint8_t data[4] = {};
  CHECK(store.begin(0, 0) == Status::unavailable);
  CHECK(store.append(0, data, 4) == Status::wrong_state);
}

}  // namespace
}  // namespace kilotune::testing
