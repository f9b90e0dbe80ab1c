// The power goes at every word program and every erase of a life of 1,000 commits.
//
// The life runs once. Before each operation a copy of the flash is forked off, in which it is torn
// in several ways; the copy is booted, twice and sometimes with a cut in the boot, and goes on. The
// environment variable KILOTUNE_POWER_COMMITS sets the length of the life.
#include <doctest/doctest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "device.h"

namespace kilotune::testing {
namespace {

constexpr uint32_t kUnevenSectors[] = {16384, 16384, 16384, 65536, 131072};
constexpr uint32_t kStm32Sectors[] = {65536, 131072, 131072};
const Plan kPlans[] = {
    {uneven(kUnevenSectors, 4), Geometry{131072, 3, 4}, 100000, {60, 1700, 17000}},
    {Geometry{4096, 12, 4}, Geometry{4096, 12, 4}, 14000, {60, 400, 4100}},
    {Geometry{512, 24, 8}, Geometry{512, 12, 8}, 1800, {60, 332, 1100}},
    {uneven(kStm32Sectors, 4), Geometry{131072, 4, 4}, 28672, {60, 1700, 17344}},
};

uint32_t life_commits() {
  const char* given = std::getenv("KILOTUNE_POWER_COMMITS");
  return given == nullptr ? 40 : static_cast<uint32_t>(std::atoi(given));
}

constexpr uint64_t kBootWrites = 2;  // words that a start may program

struct Figures {
  uint64_t programs = 0, erases = 0;  // cut, each in several ways
  uint64_t cuts = 0, cuts_in_boot = 0, boots = 0, went_on = 0;
  uint64_t to_before = 0, to_after = 0;
  uint64_t header_reads = 0, bytes_read = 0;  // of the longest boot
  uint64_t writing_boots = 0, written = 0;    // boots that had to write; operations of the longest
};

// The life on one region, and its experiments on another.
class Life {
 public:
  explicit Life(const Plan& plan)
      : plan_(plan), regions_(plan), fork_(plan), device_(plan, regions_) {
    regions_.checkpoints.before = [this](const Operation& o) {
      cut_every_way(fork_.checkpoints, o);
    };
    regions_.models.before = [this](const Operation& o) { cut_every_way(fork_.models, o); };
  }

  void run(uint32_t commits) {
    device_.boot();
    act([this] { device_.swap_model(1); });
    uint32_t told = 100;
    while (commits_ < commits) {
      step();
      if (commits_ < told || told >= commits) continue;
      MESSAGE(commits_ << " commits, " << figures_.cuts << " cuts");
      told += 100;
    }
    CHECK_FALSE(regions_.misused());
    CHECK(commits_ == commits);
  }

  [[nodiscard]] const Figures& figures() const { return figures_; }
  [[nodiscard]] Regions& regions() { return regions_; }

 private:
  // One action of the life, mostly a commit. Large adapters are rare: they have many words.
  void step() {
    const uint32_t choice = random_() % 100, number = ++number_;
    if (choice < 58) {
      ++commits_;
      act([&] { device_.commit(number, random_() % 3 != 0); });
    } else if (choice < 66) {
      const Status wanted =
          device_.state().adapter_fallback == 0 ? Status::no_checkpoint : Status::ok;
      act([&] { require(device_.checkpoints.rollback(), wanted); });
    } else if (choice < 72) {
      const Status wanted = device_.state().adapter == 0 ? Status::no_checkpoint : Status::ok;
      act([&] { require(device_.checkpoints.mark_stable(), wanted); });
    } else if (choice < 74) {
      act([&] { require(device_.checkpoints.set_note(number), Status::ok); });
    } else if (choice < 84) {
      const bool whole = choice < 81;
      commits_ += whole ? 1 : 0;
      act([&] { push(number, whole); });
    } else if (choice < 92) {
      act([this] { device_.boot(); });
    } else {
      const uint32_t kind = random_() % 30 == 0 ? 2 : random_() % 2;
      if (choice < 98 || device_.state().model_fallback == 0) {
        act([&] { device_.swap_model(kind); });
      } else {
        act([this] {
          require(device_.models.rollback(), Status::ok);
          device_.open_model();
        });
      }
    }
    if (device_.kind() == 2 && random_() % 4 == 0) act([this] { device_.swap_model(0); });
  }

  void push(uint32_t number, bool whole) {
    const Payload p = device_.adapter(number);
    const auto n = static_cast<uint32_t>(p.size());
    require(device_.checkpoints.begin(device_.spec(p, number, true)), Status::ok);
    for (uint32_t off = 0; off < (whole ? n : n / 2); off += 37) {
      require(device_.checkpoints.append(off, p.data() + off, std::min(37u, n - off)), Status::ok);
    }
    if (whole) require(device_.checkpoints.seal(), Status::ok);
  }

  // Does it, cut at each operation; all of these must have found the state before it or after it.
  template <typename Action>
  void act(const Action& action) {
    const State before = device_.state();
    found_.clear();
    action();
    const State after = device_.state();
    for (const State& found : found_) {
      const bool is_after = found == after;
      REQUIRE((is_after || found == before));
      is_after ? ++figures_.to_after : ++figures_.to_before;
    }
    // Nor is it lost by a start.
    fork_.follow(regions_);
    bound_reads();
    REQUIRE(boot_fork() == after);
    fork_.follow(regions_);
  }

  void cut_every_way(NorFlash& torn, const Operation& o) {
    ++(o.erases ? figures_.erases : figures_.programs);
    constexpr Tear kAlways[] = {Tear::one_bit, Tear::begun, Tear::mixture};
    constexpr Tear kInTurn[] = {Tear::nothing, Tear::everything, Tear::half, Tear::marginal};
    for (const Tear tear : kAlways) cut(torn, o, tear);
    cut(torn, o, kInTurn[random_() % 4]);
    if (o.erases) cut(torn, o, Tear::scrambled);
  }

  void cut(NorFlash& torn, const Operation& o, Tear tear) {
    fork_.follow(regions_);
    ++figures_.cuts;
    torn.tear(o, tear);
    const bool again = random_() % 2 == 0 && cut_boot();
    const uint64_t operations = fork_.operations();
    bound_reads();
    const State found = boot_fork();
    // Whatever was in doubt is settled; where bits were torn in deciding that, looks again and
    // again.
    const uint32_t times = fork_.operations() == operations && !again ? 1 : 5;
    for (uint32_t i = 0; i < times; ++i) REQUIRE(boot_fork() == found);
    found_.push_back(found);
    if (random_() % 4 == 0) go_on(found);
    REQUIRE_FALSE(fork_.misused());
    fork_.follow(regions_);
  }

  // A boot in which the power goes again, where it writes at all; up to three times in a row.
  // True when it did.
  bool cut_boot() {
    constexpr Tear kTears[] = {Tear::nothing, Tear::begun, Tear::one_bit, Tear::mixture,
                               Tear::everything};
    for (uint32_t i = 0; i < 3; ++i) {
      const Tear tear = kTears[random_() % 5];
      const uint64_t after = random_() % kBootWrites;
      for (NorFlash* flash : {&fork_.checkpoints, &fork_.models})
        flash->cut_at(flash->operations + after, tear, static_cast<uint32_t>(random_()));
      bool again = false;
      try {
        Device(plan_, fork_).boot();
      } catch (const PowerCut&) {
        ++figures_.cuts_in_boot;
        again = true;
      }
      fork_.checkpoints.power_on();
      fork_.models.power_on();
      if (!again) return i != 0;
    }
    return true;
  }

  State boot_fork() {
    ++figures_.boots;
    const uint64_t headers = header_reads(), bytes = bytes_read(), operations = fork_.operations();
    Device device(plan_, fork_);
    const State found = device.boot();
    const uint64_t written = fork_.operations() - operations;
    if (written != 0) ++figures_.writing_boots;
    REQUIRE(written <= kBootWrites);
    figures_.written = std::max(figures_.written, written);
    figures_.bytes_read = std::max(figures_.bytes_read, bytes_read() - bytes);
    const uint64_t reads = header_reads() - headers;
    // A marginal header may have hidden a sector from the count.
    for (uint32_t i = 0; i < 8 && reads > allowed_; ++i) bound_reads();
    REQUIRE(reads <= allowed_);
    figures_.header_reads = std::max(figures_.header_reads, reads);
    return found;
  }

  void bound_reads() { allowed_ = bound(fork_.checkpoints) + bound(fork_.models); }

  // What docs/SPEC.md says of a boot: four passes over records, voids and sectors, and the tail.
  static uint64_t bound(NorFlash& flash) {
    const Flash port = flash.port();
    const uint64_t before = flash.header_reads;
    Record unused;
    for (RecordWalk walk(port, nullptr); walk.next(unused);) {
    }
    return 4 * (flash.header_reads - before) + 2;
  }

  // The device does not only boot: it commits, keeps that over a start, and returns from it.
  void go_on(const State& found) {
    ++figures_.went_on;
    Device device(plan_, fork_);
    device.boot();
    if (found.model == 0) return device.swap_model(1);
    const RecordInfo fallback = device.checkpoints.fallback();
    const bool stable = random_() % 2 == 0;
    device.commit(0x40000000u + number_, stable);
    const uint32_t committed = device.checkpoints.current().crc;
    bound_reads();
    State now = boot_fork();
    REQUIRE(now.adapter == committed);
    REQUIRE((now.adapter_fallback == found.adapter || now.adapter_fallback == fallback.crc));
    REQUIRE((now.adapter_fallback == found.adapter || !found.stable));
    if (now.adapter_fallback == 0) return;
    device.boot();
    require(device.checkpoints.rollback(), Status::ok);
    bound_reads();
    REQUIRE(boot_fork().adapter == now.adapter_fallback);
  }

  [[nodiscard]] uint64_t header_reads() const {
    return fork_.checkpoints.header_reads + fork_.models.header_reads;
  }
  [[nodiscard]] uint64_t bytes_read() const {
    return fork_.checkpoints.bytes_read + fork_.models.bytes_read;
  }

  const Plan& plan_;
  Regions regions_, fork_;
  Device device_;
  std::mt19937 random_{11};
  uint32_t number_ = 0, commits_ = 0;
  uint64_t allowed_ = 0;  // header reads of a boot
  std::vector<State> found_;
  Figures figures_;
};

// A cut at any operation leaves the last committed or the one being committed.
void live(const Plan& plan) {
  Life life(plan);
  life.run(life_commits());
  const Figures& f = life.figures();
  const auto& erases = life.regions().checkpoints.erases;
  std::string wear;
  for (uint32_t i = 0; i < plan.checkpoints.sector_count; ++i)
    wear += (i == 0 ? "" : " ") + std::to_string(erases[i]);
  CHECK(f.to_before > 0);
  CHECK(f.to_after > 0);
  CHECK(f.writing_boots > 0);
  MESSAGE(life_commits() << " commits, " << f.programs << " word programs and " << f.erases
                         << " erases, " << f.cuts << " cuts and " << f.cuts_in_boot
                         << " in the boot after one, " << f.boots << " boots (" << f.to_before
                         << " to the last committed, " << f.to_after
                         << " to the one being committed, " << f.writing_boots << " wrote, at most "
                         << f.written << " words), " << f.went_on << " went on; longest boot "
                         << f.header_reads << " headers, " << f.bytes_read
                         << " bytes; erases of each sector: " << wear);
}

TEST_CASE("cuts at any operation: sectors of 16, 64 and 128 KB") { live(kPlans[0]); }
TEST_CASE("cuts at any operation: nRF pages of 4 KB") { live(kPlans[1]); }
TEST_CASE("cuts at any operation: pages of 512 bytes") { live(kPlans[2]); }
TEST_CASE("cuts at any operation: an STM32F4's sectors of 64 and 128 KB") { live(kPlans[3]); }

}  // namespace
}  // namespace kilotune::testing
