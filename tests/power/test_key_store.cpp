// Cuts the power at every program and erase of a key store's life. After each cut the key is the
// one before or the one being set, and no count is ever given twice, even where bits that the cut
// left half programmed read differently from boot to boot.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "nor_flash.h"
#include "runtime/keys/key_store.h"

using namespace kilotune;
using kilotune::testing::Geometry;
using kilotune::testing::NorFlash;
using kilotune::testing::PowerCut;
using kilotune::testing::Tear;

namespace {

// 352 bytes: 68 entries of 4 bytes, so that logs turn over often.
constexpr Geometry kGeometries[] = {{352, 2, 4},  {352, 3, 4},  {512, 2, 1}, {512, 2, 8},
                                    {512, 4, 16}, {1024, 2, 4}, {4096, 2, 4}};

struct Owner {
  Lock lock = Lock::none;
  std::vector<uint8_t> key;
  bool operator==(const Owner& other) const { return lock == other.lock && key == other.key; }
};

Owner owner(Lock lock, uint8_t seed) {
  if (lock == Lock::none) return {};
  Owner out{lock, std::vector<uint8_t>(KeyStore::kKeyBytes)};
  for (uint32_t i = 0; i < out.key.size(); ++i)
    out.key[i] = static_cast<uint8_t>(seed * 31 + i * 7);
  return out;
}

Owner owner_of(const KeyStore& store) {
  if (store.key() == nullptr) return {store.lock(), {}};
  return {store.lock(), {store.key(), store.key() + KeyStore::kKeyBytes}};
}

bool holds(const std::vector<uint8_t>& bytes, const Owner& o) {
  return std::search(bytes.begin(), bytes.end(), o.key.begin(), o.key.end()) != bytes.end();
}

// What a device has been told and has told, for as long as its flash lives. (The calls stand
// outside of REQUIRE, which would catch the cut.)
struct Life {
  Owner owner, wanted;  // wanted: being set when the power went
  uint32_t used = 0;    // highest count that was given out
  uint32_t attempts = 0;
  bool succeeding = false;  // the cut fell into count_success

  void set(KeyStore& store, const Owner& next) {
    wanted = next;
    const Status status = store.set(next.lock, next.key.empty() ? nullptr : next.key.data());
    REQUIRE(status == Status::ok);
    owner = next;
  }
  void attempt(KeyStore& store) {
    const Status status = store.count_attempt();
    REQUIRE(status == Status::ok);
    REQUIRE(store.count() > used);
    used = store.count();
    ++attempts;
  }
  void succeed(KeyStore& store) {
    succeeding = true;
    const Status status = store.count_success();
    REQUIRE(status == Status::ok);
    REQUIRE(store.count() > used);
    used = store.count();
    attempts = 0;
    succeeding = false;
  }
  void check(const KeyStore& store) const {
    const bool known = owner_of(store) == owner || owner_of(store) == wanted;
    REQUIRE(known);
    REQUIRE(store.count() >= used);
    if (!succeeding) REQUIRE(store.attempts() >= attempts);
  }
};

void live(KeyStore& store, Life& life, uint32_t entries) {
  life.set(store, owner(Lock::writes, 1));
  for (uint32_t i = 0; i < entries; ++i) {
    life.attempt(store);
    if (i % 3 == 2) life.succeed(store);
  }
  life.set(store, owner(Lock::all, 2));
  for (uint32_t i = 0; i < 4; ++i) life.attempt(store);
  life.set(store, owner(Lock::none, 0));
  life.set(store, owner(Lock::writes, 3));
  life.attempt(store);
}

uint32_t entries_for(const Geometry& g) {
  return g.sector_bytes / (g.word_bytes < 4 ? 4 : g.word_bytes) + 5;  // more than a sector has
}

uint64_t operations(const Geometry& g) {
  NorFlash flash(g);
  const Flash port = flash.port();
  KeyStore store;
  Life life;
  REQUIRE(store.mount(&port) == Status::ok);
  live(store, life, entries_for(g));
  REQUIRE_FALSE(flash.misused);
  return flash.operations;
}

// The state of flash after a cut at operation `k`, and what the owner knows.
struct Cut {
  std::vector<uint8_t> bytes;
  Life life;
};

Cut cut(const Geometry& g, uint64_t k, Tear tear, uint32_t seed) {
  NorFlash flash(g);
  const Flash port = flash.port();
  KeyStore store;
  Cut out;
  flash.cut_at(k, tear, seed);
  REQUIRE(store.mount(&port) == Status::ok);
  bool cut_off = false;
  try {
    live(store, out.life, entries_for(g));
  } catch (const PowerCut&) {
    cut_off = true;
  }
  REQUIRE(cut_off);
  REQUIRE_FALSE(flash.misused);
  out.bytes = flash.bytes();
  return out;
}

// One boot on `flash`: what it finds is right, and goes on from there.
void boot(NorFlash& flash, Life& life) {
  const Flash port = flash.port();
  KeyStore store;
  REQUIRE(store.mount(&port) == Status::ok);
  life.check(store);
  const Owner found = owner_of(store);
  if (store.lock() == Lock::none && store.count() == 0) return;  // never provisioned
  life.attempt(store);
  // What the new owner has replaced must not come back.
  const bool replaced = !(found == life.owner) && life.owner.lock != Lock::none;
  if (replaced) REQUIRE_FALSE(holds(flash.bytes(), life.owner));
  life.owner = life.wanted = found;        // an entry settles it
  if (life.succeeding) life.attempts = 1;  // the success may count or not
  life.succeeding = false;
}

}  // namespace

TEST_CASE("A key store survives a power cut at every program and erase") {
  uint32_t cuts = 0;
  for (const Geometry& g : kGeometries) {
    const uint64_t n = operations(g);
    for (uint64_t k = 0; k < n; ++k) {
      for (const Tear tear : {Tear::nothing, Tear::mixture, Tear::everything}) {
        const Cut after = cut(g, k, tear, static_cast<uint32_t>(k));
        NorFlash flash(g);
        flash.bytes() = after.bytes;
        Life life = after.life;
        for (int i = 0; i < 3; ++i) boot(flash, life);
        ++cuts;
      }
    }
  }
  MESSAGE(cuts << " cuts");
}

TEST_CASE("Bits that a cut left half programmed may read differently in every boot") {
  std::mt19937 random(7);
  uint32_t cuts = 0;
  for (const Geometry& g : {kGeometries[0], kGeometries[3], kGeometries[4]}) {
    const uint64_t n = operations(g);
    for (uint64_t k = 0; k < n; ++k) {
      const Cut before = cut(g, k, Tear::nothing, 0), after = cut(g, k, Tear::everything, 0);
      for (int variant = 0; variant < 8; ++variant) {
        NorFlash flash(g);
        flash.bytes() = before.bytes;
        Life life = before.life;
        std::vector<uint8_t> seen = before.bytes;
        std::vector<uint32_t> erases = flash.erases;
        for (int i = 0; i < 4; ++i) {
          // Marginal bytes that nothing has touched since read anew: as before, as meant, or mixed.
          const uint32_t how = static_cast<uint32_t>(random()) % 3;
          for (uint32_t at = 0; at < seen.size(); ++at) {
            const uint8_t marginal = before.bytes[at] ^ after.bytes[at];
            const uint32_t sector = at / g.sector_bytes;
            if (marginal == 0 || flash.bytes()[at] != seen[at]) continue;
            if (flash.erases[sector] != erases[sector]) continue;
            const auto taken = static_cast<uint8_t>(how == 0 ? 0 : how == 1 ? 0xFF : random());
            flash.bytes()[at] = static_cast<uint8_t>(before.bytes[at] ^ (marginal & taken));
            seen[at] = flash.bytes()[at];
          }
          boot(flash, life);
        }
        ++cuts;
      }
    }
  }
  MESSAGE(cuts << " lives");
}

TEST_CASE("A key store on blank, foreign or missing flash has no key and takes one") {
  KeyStore store;
  CHECK(store.mount(nullptr) == Status::unavailable);
  CHECK(store.set(Lock::writes, owner(Lock::writes, 1).key.data()) == Status::unavailable);
  NorFlash one({512, 1, 4});
  const Flash too_small = one.port();
  CHECK(store.mount(&too_small) == Status::unavailable);
  for (const uint8_t fill : {0xFF, 0x00, 0x5A}) {
    NorFlash flash({512, 2, 4});
    flash.bytes().assign(flash.bytes().size(), fill);
    const Flash port = flash.port();
    REQUIRE(store.mount(&port) == Status::ok);
    CHECK(owner_of(store) == Owner{});
    CHECK(store.count_attempt() == Status::wrong_state);
    const Owner next = owner(Lock::all, 9);
    CHECK(store.set(next.lock, next.key.data()) == Status::ok);
    CHECK(owner_of(store) == next);
    CHECK(store.mount(&port) == Status::ok);
    CHECK(owner_of(store) == next);
  }
}

TEST_CASE("A forgotten or replaced key is nowhere in flash") {
  NorFlash flash({352, 3, 4});
  const Flash port = flash.port();
  KeyStore store;
  Life life;
  REQUIRE(store.mount(&port) == Status::ok);
  life.set(store, owner(Lock::writes, 1));
  for (int i = 0; i < 100; ++i) life.attempt(store);
  REQUIRE(holds(flash.bytes(), owner(Lock::writes, 1)));
  life.set(store, owner(Lock::writes, 2));
  CHECK_FALSE(holds(flash.bytes(), owner(Lock::writes, 1)));
  life.set(store, owner(Lock::none, 0));
  CHECK_FALSE(holds(flash.bytes(), owner(Lock::writes, 2)));
  CHECK(store.count() >= 100);  // goes on behind what was used
}

TEST_CASE("A log of entries wears every sector alike, an erase a full sector") {
  NorFlash flash({1024, 2, 4});
  const Flash port = flash.port();
  KeyStore store;
  REQUIRE(store.mount(&port) == Status::ok);
  REQUIRE(store.set(Lock::writes, owner(Lock::writes, 1).key.data()) == Status::ok);
  const uint32_t before = flash.erases[0] + flash.erases[1];
  constexpr uint32_t kEntries = (1024 - 80) / 4;
  for (uint32_t i = 0; i < 100 * kEntries; ++i) REQUIRE(store.count_attempt() == Status::ok);
  const uint32_t erases = flash.erases[0] + flash.erases[1] - before;
  CHECK(erases <= 100);
  CHECK(flash.erases[0] <= flash.erases[1] + 2);
  CHECK(flash.erases[1] <= flash.erases[0] + 2);
  CHECK(store.attempts() == 255);
}

TEST_CASE("A sector that is worn out is passed over, and the old key stays when none is left") {
  NorFlash flash({512, 3, 4});
  const Flash port = flash.port();
  flash.wear_out(1);
  KeyStore store;
  REQUIRE(store.mount(&port) == Status::ok);
  const Owner first = owner(Lock::writes, 1), second = owner(Lock::writes, 2);
  CHECK(store.set(first.lock, first.key.data()) == Status::ok);
  for (int i = 0; i < 300; ++i) CHECK(store.count_attempt() == Status::ok);
  CHECK(store.set(second.lock, second.key.data()) == Status::ok);
  KeyStore again;
  REQUIRE(again.mount(&port) == Status::ok);
  CHECK(owner_of(again) == second);

  NorFlash small({512, 2, 4});
  const Flash small_port = small.port();
  REQUIRE(store.mount(&small_port) == Status::ok);
  REQUIRE(store.set(first.lock, first.key.data()) == Status::ok);
  small.wear_out(0);  // the first record went to sector 1
  CHECK(store.set(second.lock, second.key.data()) == Status::flash_failed);
  CHECK(owner_of(store) == first);
  REQUIRE(again.mount(&small_port) == Status::ok);
  CHECK(owner_of(again) == first);
}
