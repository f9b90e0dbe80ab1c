// What the record store does on flash that works, wears out or holds foreign bytes. Power cuts:
// test_power_cuts.cpp.
#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "kernel/bytes.h"
#include "nor_flash.h"
#include "runtime/storage/record_store.h"

namespace kilotune::testing {
namespace {

using Payload = std::vector<uint8_t>;
constexpr uint8_t kImage[32] = {1, 2, 3};
constexpr uint8_t kOtherImage[32] = {9, 8, 7};
constexpr uint32_t kUneven[] = {256, 256, 1024, 4096, 4096, 512};

Payload payload_of(uint32_t number, uint32_t bytes) {
  Payload p(bytes);
  std::mt19937 random(number);
  for (uint8_t& b : p) b = static_cast<uint8_t>(random());
  return p;
}

RecordSpec spec_of(const Payload& p, uint32_t number, bool stable = true,
                   const uint8_t* hash = kImage) {
  const auto n = static_cast<uint32_t>(p.size());
  return {hash, n, crc32(p.data(), n), number, 2 * number, stable};
}

// Four sectors of 512 bytes, two records of 100 bytes in each.
struct Fixture {
  explicit Fixture(const Geometry& geometry = Geometry{512, 4, 4}, uint32_t payload_bytes = 100)
      : flash(geometry), port(flash.port()), bytes(payload_bytes) {
    mount();
  }
  NorFlash flash;
  Flash port;
  RecordStore store;
  uint32_t bytes;

  void mount() { REQUIRE(store.mount(&port, kImage, bytes) == Status::ok); }
  Status try_commit(uint32_t number, bool stable = true) {
    const Payload p = payload_of(number, bytes);
    return store.commit(p.data(), spec_of(p, number, stable));
  }
  void commit(uint32_t number, bool stable = true) {
    REQUIRE(try_commit(number, stable) == Status::ok);
  }
  void expect(uint32_t number) {
    mount();
    REQUIRE(store.payload() != nullptr);
    CHECK(Payload(store.payload(), store.payload() + bytes) == payload_of(number, bytes));
    CHECK(store.current().windows == number);
    CHECK(store.current().steps == 2 * number);
    CHECK_FALSE(flash.misused);
  }
};

TEST_CASE_FIXTURE(Fixture, "an empty region has no record and refuses rollback unchanged") {
  CHECK(store.payload() == nullptr);
  CHECK(store.current().sequence == 0);
  CHECK(store.rollback() == Status::no_checkpoint);
  CHECK(store.mark_stable() == Status::no_checkpoint);
  CHECK(flash.operations == 0);
}

TEST_CASE("what was committed is found in every geometry") {
  for (const Geometry& geometry : {Geometry{1024, 3, 1}, Geometry{128, 13, 2}, Geometry{512, 8, 8},
                                   Geometry{512, 9, 16}, uneven(kUneven, 4)}) {
    for (const uint32_t bytes : {0u, 1u, 15u, 203u, 331u}) {
      CAPTURE(geometry.sector_count);
      CAPTURE(bytes);
      Fixture f(geometry, bytes);
      for (uint32_t number = 1; number <= 60; ++number) {
        f.commit(number);
        if (number % 3 == 0) f.expect(number);
      }
      REQUIRE(f.store.rollback() == Status::ok);
      f.expect(59);
    }
  }
}

TEST_CASE_FIXTURE(Fixture, "rollback returns to the one before for good") {
  commit(1);
  CHECK(store.rollback() == Status::no_checkpoint);
  commit(2);
  REQUIRE(store.rollback() == Status::ok);
  expect(1);
  CHECK(store.fallback().sequence == 0);
  CHECK(store.rollback() == Status::no_checkpoint);
  commit(3);
  REQUIRE(store.rollback() == Status::ok);
  expect(1);
}

TEST_CASE_FIXTURE(Fixture, "candidates never displace the last stable record") {
  commit(1);
  for (uint32_t number = 2; number < 40; ++number) commit(number, false);
  expect(39);
  CHECK_FALSE(store.current_is_stable());
  REQUIRE(store.rollback() == Status::ok);
  expect(1);
  CHECK(store.current_is_stable());
  commit(40, false);
  REQUIRE(store.mark_stable() == Status::ok);
  CHECK(store.mark_stable() == Status::ok);  // it is already
  expect(40);
  CHECK(store.current_is_stable());
  commit(41, false);
  REQUIRE(store.rollback() == Status::ok);
  expect(40);
}

TEST_CASE_FIXTURE(Fixture, "without a stable one a rollback returns to the candidate before") {
  commit(1, false);
  commit(2, false);
  REQUIRE(store.rollback() == Status::ok);
  expect(1);
}

TEST_CASE_FIXTURE(Fixture, "the sequence number wraps") {
  commit(1);
  const uint32_t sequence = 0xFFFFFFF2u;  // as if nearly 2^32 commits had been made
  store_u32(flash.bytes().data() + 8, sequence);
  store_u32(flash.bytes().data() + 76, crc32(flash.bytes().data(), 76));
  mount();
  REQUIRE(store.current().sequence == sequence);
  for (uint32_t number = 2; number < 22; ++number) {
    commit(number);
    expect(number);
    CHECK(store.fallback().windows == number - 1);
  }
  CHECK(store.current().sequence < 1000);
}

TEST_CASE_FIXTURE(Fixture, "records of another image are ignored and do not outrank this one's") {
  for (uint32_t number = 1; number <= 3; ++number) commit(number);
  RecordStore other;
  REQUIRE(other.mount(&port, kOtherImage, bytes) == Status::ok);
  CHECK(other.payload() == nullptr);
  const Payload p = payload_of(7, bytes);
  REQUIRE(other.commit(p.data(), spec_of(p, 7, true, kOtherImage)) == Status::ok);
  expect(3);
  commit(4);
  expect(4);
  REQUIRE(other.mount(&port, kOtherImage, bytes) == Status::ok);
  REQUIRE(other.payload() != nullptr);
  CHECK(Payload(other.payload(), other.payload() + bytes) == p);
}

TEST_CASE("a store for any hash keeps records of different lengths, as models are") {
  Fixture f(Geometry{512, 12, 4}, 1800);
  REQUIRE(f.store.mount(&f.port, nullptr, 1800, 1000) == Status::ok);
  for (uint32_t number = 1; number < 30; ++number) {
    const Payload p = payload_of(number, 100 + 61 * (number % 28));
    if (number == 1) std::fill_n(f.flash.bytes().begin(), 1000, uint8_t{0});  // flashed by cable
    REQUIRE(f.store.commit(p.data(), spec_of(p, number)) == Status::ok);
    if (number == 1) CHECK(f.flash.bytes()[999] == 0);
    REQUIRE(f.store.mount(&f.port, nullptr, 1800) == Status::ok);
    REQUIRE(f.store.current().bytes == p.size());
    CHECK(std::memcmp(f.store.payload(), p.data(), p.size()) == 0);
    CHECK(f.store.fallback().windows == number - 1);
  }
  const Payload large(1801);
  CHECK(f.store.begin(spec_of(large, 1)) == Status::bad_argument);
  CHECK_FALSE(f.flash.misused);
}

TEST_CASE_FIXTURE(Fixture, "a damaged payload or header falls back to the record before") {
  commit(1);
  commit(2);
  const std::vector<uint8_t> intact = flash.bytes();
  const uint32_t second = 112 + 112;
  for (const uint32_t off : {8u, 20u, 77u, 112u, 211u}) {
    flash.bytes() = intact;
    flash.bytes()[second + off] ^= 4;
    port = flash.port();
    expect(1);
  }
  // The commit word: outweighed by the seal word, but where it is all zeros.
  flash.bytes() = intact;
  flash.bytes()[second + 80] ^= 4;
  expect(2);
  std::fill_n(flash.bytes().begin() + second + 80, 4, uint8_t{0});
  expect(1);
}

// A start that was cut as it confirmed, then one that was cut as it revoked: both words are torn.
TEST_CASE_FIXTURE(Fixture, "a torn seal word does not outweigh a revocation that was begun") {
  commit(1);
  commit(2);
  const uint32_t second = 112 + 112;
  uint8_t* commit_word = flash.bytes().data() + second + 80;
  uint8_t* seal_word = flash.bytes().data() + second + 96;
  std::fill_n(seal_word, 4, uint8_t{0xFF});
  seal_word[0] = 0xFE;    // one bit of the zeros that confirm
  commit_word[0] = 0x53;  // torn: one bit too many
  const std::vector<uint8_t> confirmed = flash.bytes();
  expect(2);
  CHECK(load_u32(seal_word) == 0);
  flash.bytes() = confirmed;
  commit_word[3] &= 0x0F;  // and then some of those that revoke
  port = flash.port();
  expect(1);
  CHECK(load_u32(commit_word) == 0);
  expect(1);
}

TEST_CASE_FIXTURE(Fixture, "a record behind a newer one is not written over") {
  commit(1);
  commit(2);
  // The older one behind the newer, whose payload is damaged: no log, but it may lie in flash.
  uint8_t* sector = flash.bytes().data();
  std::swap_ranges(sector, sector + record_bytes(bytes), sector + record_bytes(bytes));
  sector[kRecordOverhead] ^= 1;
  expect(1);
  flash.cut_at(flash.operations, Tear::everything, 1);
  CHECK_THROWS_AS(static_cast<void>(try_commit(3)), PowerCut);
  flash.power_on();
  expect(1);
  commit(3);
  expect(3);
  REQUIRE(store.rollback() == Status::ok);
  expect(1);
}

TEST_CASE_FIXTURE(Fixture, "space behind the newest record that is not blank is passed over") {
  commit(1);
  flash.bytes()[224 + 150] = 0x7F;  // where the payload of the next one would be
  commit(2);
  expect(2);
  CHECK(store.fallback().windows == 1);
}

// Another image's records, in the second sector of a large one: whoever goes back to that image
// must not find them at one start and miss them at the next.
TEST_CASE("a record whose erase was cut is never found again") {
  Fixture f(Geometry{512, 6, 4}, 800);  // two sectors each
  const auto small = [&f] { return f.store.mount(&f.port, kOtherImage, 100); };
  REQUIRE(small() == Status::ok);
  for (uint32_t number = 1; number <= 3; ++number) {  // the third is in the second sector
    const Payload p = payload_of(number, 100);
    REQUIRE(f.store.commit(p.data(), spec_of(p, number, true, kOtherImage)) == Status::ok);
  }
  f.mount();
  for (uint32_t number = 4; number <= 5; ++number) f.commit(number);
  f.flash.before = [&f](const Operation& o) {
    if (!o.erases || o.off != 512) return;
    f.flash.tear(o, Tear::begun);
    throw PowerCut{};
  };
  bool cut = false;
  try {  // not within the macro, which would take the exception
    static_cast<void>(f.try_commit(6));
  } catch (const PowerCut&) {
    cut = true;
  }
  REQUIRE(cut);
  f.flash.power_on();
  for (uint32_t look = 0; look < 20; ++look) {
    REQUIRE(small() == Status::ok);
    CHECK(f.store.payload() == nullptr);
  }
  f.expect(5);
}

TEST_CASE_FIXTURE(Fixture, "a note goes on with every record of its image, rolled back ones too") {
  const auto noted = [&](uint32_t number, uint32_t note) {
    CHECK(store.note() == note);
    expect(number);  // mounts
    CHECK(store.note() == note);
  };
  REQUIRE(store.set_note(7) == Status::ok);
  CHECK(flash.operations == 0);  // nothing to write it with
  commit(1);
  noted(1, 7);
  commit(2, false);
  REQUIRE(store.set_note(9) == Status::ok);
  CHECK_FALSE(store.current_is_stable());
  CHECK(store.fallback().windows == 1);
  noted(2, 9);
  REQUIRE(store.mark_stable() == Status::ok);
  noted(2, 9);
  REQUIRE(store.rollback() == Status::ok);
  noted(1, 9);
  REQUIRE(store.mount(&port, kOtherImage, bytes) == Status::ok);
  CHECK(store.note() == 0);
}

TEST_CASE_FIXTURE(Fixture, "staging refuses gaps, changed repeats, excess and a wrong checksum") {
  commit(1);
  const Payload p = payload_of(2, bytes);
  RecordSpec spec = spec_of(p, 2);
  CHECK(store.append(0, p.data(), 4) == Status::wrong_state);
  CHECK(store.seal() == Status::wrong_state);
  bool wrong = false;
  SUBCASE("right checksum") {}
  SUBCASE("wrong checksum") { wrong = true; }
  if (wrong) spec.crc ^= 1;
  REQUIRE(store.begin(spec) == Status::ok);
  CHECK(store.append(1, p.data(), 4) == Status::out_of_order);
  CHECK(store.append(0, p.data(), bytes + 1) == Status::bad_argument);
  CHECK(store.append(0xFFFFFFFFu, p.data(), 4) == Status::bad_argument);
  REQUIRE(store.append(0, p.data(), 11) == Status::ok);
  CHECK(store.staged() == 11);
  for (const uint32_t at : {3u, 10u}) {  // in flash, and in the word that is not full
    Payload changed = p;
    changed[at] ^= 1;
    CHECK(store.append(2, changed.data() + 2, 20) == Status::bad_argument);
  }
  CHECK(store.seal() == Status::truncated);
  REQUIRE(store.append(5, p.data() + 5, bytes - 5) == Status::ok);  // overlaps what was taken
  REQUIRE(store.append(bytes - 3, p.data() + bytes - 3, 3) == Status::ok);
  CHECK(store.seal() == (wrong ? Status::bad_crc : Status::ok));
  CHECK(store.seal() == Status::wrong_state);
  expect(wrong ? 1 : 2);
}

TEST_CASE("staging takes pieces of any size, again and again") {
  for (const uint32_t word : {1u, 2u, 4u, 8u, 16u}) {
    Fixture f(Geometry{256, 12, word}, 301);
    const Payload p = payload_of(word, 301);
    REQUIRE(f.store.begin(spec_of(p, word)) == Status::ok);
    std::mt19937 random(word);
    while (f.store.staged() < 301) {
      const uint32_t at = random() % (f.store.staged() + 1);
      const uint32_t n = random() % (302 - at);
      REQUIRE(f.store.append(at, p.data() + at, n < 40 ? n : 40) == Status::ok);
    }
    REQUIRE(f.store.seal() == Status::ok);
    f.expect(word);
  }
}

TEST_CASE_FIXTURE(Fixture, "worn sectors are passed over, and both records stay where they are") {
  commit(1);
  SUBCASE("programs fail") { flash.wear_out(1); }
  SUBCASE("erases fail") { flash.break_erase(1); }
  for (uint32_t number = 2; number < 60; ++number) {
    commit(number);
    expect(number);
    REQUIRE(store.fallback().windows == number - 1);
  }
  CHECK(flash.erases[1] < 60);
}

TEST_CASE_FIXTURE(Fixture, "a region that takes nothing any more says so and keeps what it has") {
  commit(1);
  commit(2);
  for (uint32_t sector = 0; sector < 4; ++sector) flash.wear_out(sector);
  CHECK(try_commit(3) == Status::flash_failed);
  CHECK(store.rollback() == Status::flash_failed);
  CHECK(store.current().windows == 2);
  expect(2);
  CHECK(store.fallback().windows == 1);
}

TEST_CASE_FIXTURE(Fixture,
                  "a push that fails on a worn sector goes elsewhere when it is repeated") {
  commit(1);
  commit(2);  // fills the first sector
  flash.wear_out(1);
  const Payload p = payload_of(3, bytes);
  CHECK(store.begin(spec_of(p, 3)) == Status::flash_failed);
  REQUIRE(store.begin(spec_of(p, 3)) == Status::ok);
  REQUIRE(store.append(0, p.data(), bytes) == Status::ok);
  REQUIRE(store.seal() == Status::ok);
  expect(3);
}

TEST_CASE_FIXTURE(Fixture, "wear spreads over the sectors and is counted") {
  for (uint32_t number = 1; number <= 800; ++number) commit(number);
  for (uint32_t sector = 0; sector < 4; ++sector) CHECK(flash.erases[sector] == 100);
  expect(800);
  CHECK(store.current().erases == 400);
}

TEST_CASE_FIXTURE(Fixture, "a sector is filled before the next is erased, across restarts too") {
  bytes = 16;
  mount();
  for (uint32_t number = 1; number <= 40; ++number) {
    commit(number);
    if (number % 2 == 0) expect(number);
  }
  CHECK(store.current().erases <= 40 * (128 + 112) / 512 + 4);
}

TEST_CASE("wear spreads over uneven sectors, by their size") {
  constexpr uint32_t kSizes[] = {1024, 1024, 4096, 8192};
  Fixture f(uneven(kSizes, 4), 16);
  for (uint32_t number = 1; number <= 112 * 10; ++number) f.commit(number);
  for (uint32_t sector = 0; sector < 4; ++sector) CHECK(f.flash.erases[sector] == 10);
}

// The figures of docs/RELIABILITY.md; times are the longest of the data sheets (slow_flash.cpp).
TEST_CASE("small adapters share an erase") {
  struct Chip {
    const char* name;
    Geometry geometry;
    double erase_ms, word_ms;
  };
  const Chip chips[] = {{"STM32F4, 16 KB", {16384, 3, 4}, 500, 0.1},
                        {"nRF52840, 4 KB", {4096, 32, 4}, 85, 0.041},
                        {"nRF51822, 1 KB", {1024, 48, 4}, 22.3, 0.046}};
  for (const Chip& chip : chips) {
    for (const uint32_t bytes : {200u, 800u, 3000u}) {
      Fixture f(chip.geometry, bytes);
      constexpr uint32_t kCommits = 2000;
      for (uint32_t number = 1; number <= kCommits; ++number) f.commit(number);
      const double erases = f.store.current().erases;
      const double words = static_cast<double>(f.flash.operations) - erases;
      const uint32_t fitting = chip.geometry.sector_bytes / record_bytes(bytes);
      const uint32_t spanned = (record_bytes(bytes) - 1) / chip.geometry.sector_bytes + 1;
      CHECK(erases <= (fitting > 0 ? kCommits / fitting + 1 : kCommits * spanned));
      MESSAGE(std::string(chip.name)
              << ", adapter of " << bytes << " bytes: " << kCommits / erases
              << " commits an erase, " << words / kCommits << " words and "
              << (erases * chip.erase_ms + words * chip.word_ms) / kCommits << " ms a commit");
    }
  }
}

TEST_CASE("the longest payload of a region fits, and no longer one does, whatever its sectors") {
  constexpr uint32_t kMixed[] = {16384, 16384, 16384, 65536, 131072};
  constexpr uint32_t kStm32[] = {65536, 131072, 131072};
  struct {
    Geometry geometry;
    uint32_t longest;
  } const regions[] = {{{16384, 3, 4}, 16384 - 112},     {{1024, 46, 4}, 15 * 1024 - 112},
                       {uneven(kMixed, 4), 49152 - 112},  // 16 + 16 + 16, 64, 128
                       {uneven(kStm32, 4), 65536 - 112}, {{512, 2, 4}, 0},
                       {{4096, 30, 4}, 10 * 4096 - 112}};
  for (const auto& region : regions) {
    NorFlash flash(region.geometry);
    const Flash port = flash.port();
    CHECK(RecordStore::capacity(port) == region.longest);
    CHECK(RecordStore::fits(port, region.longest) == (region.longest != 0));
    CHECK_FALSE(RecordStore::fits(port, region.longest + 1));
  }
}

TEST_CASE("a region without room for three slots is refused") {
  NorFlash flash({512, 5, 4});
  const Flash port = flash.port();
  CHECK(RecordStore::fits(port, 512 - 112));
  CHECK_FALSE(RecordStore::fits(port, 512 - 111));  // two sectors a slot, two slots
  CHECK_FALSE(RecordStore::fits(port, 0xFFFFFFFFu));
  RecordStore store;
  CHECK(store.mount(&port, kImage, 1000) == Status::unavailable);
  CHECK(store.mount(nullptr, kImage, 100) == Status::unavailable);
  const uint8_t data[4] = {};
  CHECK(store.begin({kImage, 4, 0, 0, 0, true}) == Status::unavailable);
  CHECK(store.append(0, data, 4) == Status::wrong_state);
  CHECK(store.commit(data, {kImage, 4, 0, 0, 0, true}) == Status::unavailable);
  constexpr uint32_t kOdd[] = {512, 510, 512};
  NorFlash odd(uneven(kOdd, 4));
  const Flash odd_port = odd.port();
  CHECK_FALSE(RecordStore::fits(odd_port, 100));
}

}  // namespace
}  // namespace kilotune::testing
