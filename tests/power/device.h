// A device as the power sees it: model partition and checkpoint region, and what a boot finds
// there.
#ifndef KILOTUNE_TESTS_POWER_DEVICE_H_
#define KILOTUNE_TESTS_POWER_DEVICE_H_

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>
#include <vector>

#include "kernel/bytes.h"
#include "nor_flash.h"
#include "runtime/storage/record_store.h"

namespace kilotune::testing {

using Payload = std::vector<uint8_t>;

struct Plan {
  Geometry checkpoints, models;
  uint32_t model_capacity;
  std::array<uint32_t, 3> adapter_bytes;  // of each model
};

// What a boot finds, by CRC of the payloads; 0: none.
struct State {
  uint32_t model = 0, model_fallback = 0;
  uint32_t adapter = 0, adapter_fallback = 0;
  bool stable = false;
  uint32_t note = 0;
  bool operator==(const State& o) const {
    return model == o.model && model_fallback == o.model_fallback && adapter == o.adapter &&
           adapter_fallback == o.adapter_fallback && stable == o.stable && note == o.note;
  }
};

struct Regions {
  explicit Regions(const Plan& plan) : checkpoints(plan.checkpoints), models(plan.models) {}
  NorFlash checkpoints, models;
  void follow(Regions& first) {
    checkpoints.follow(first.checkpoints);
    models.follow(first.models);
  }
  [[nodiscard]] uint64_t operations() const { return checkpoints.operations + models.operations; }
  [[nodiscard]] bool misused() const { return checkpoints.misused || models.misused; }
};

// A model's payload begins with its hash; the hash begins with which of the plan's models it is.
inline Payload model_payload(uint32_t kind) {
  Payload p(120 + 130 * kind);
  std::mt19937 random(kind + 77);
  for (uint8_t& b : p) b = static_cast<uint8_t>(random());
  p[0] = static_cast<uint8_t>(kind);
  return p;
}

// Not the bare macro: that would swallow the exception of a power cut.
inline void require(Status got, Status wanted) { REQUIRE(got == wanted); }

class Device {
 public:
  Device(const Plan& plan, Regions& regions)
      : plan_(plan),
        regions_(regions),
        checkpoint_port_(regions.checkpoints.port()),
        model_port_(regions.models.port()) {}
  Device(const Device&) = delete;

  // PowerCut leaves it off.
  State boot() {
    require(models.mount(&model_port_, nullptr, plan_.model_capacity), Status::ok);
    if (models.payload() != nullptr) open_model();
    return state();
  }

  [[nodiscard]] State state() const {
    State s;
    s.model = checked(regions_.models, models.payload(), models.current());
    s.model_fallback = checked(regions_.models, models.fallback_payload(), models.fallback());
    if (s.model == 0) return s;
    s.adapter = checked(regions_.checkpoints, checkpoints.payload(), checkpoints.current());
    s.adapter_fallback =
        checked(regions_.checkpoints, checkpoints.fallback_payload(), checkpoints.fallback());
    s.stable = s.adapter != 0 && checkpoints.current_is_stable();
    s.note = s.adapter != 0 ? checkpoints.note() : 0;
    return s;
  }

  [[nodiscard]] uint32_t kind() const { return hash_[0]; }
  [[nodiscard]] uint32_t adapter_bytes() const { return plan_.adapter_bytes[kind()]; }
  [[nodiscard]] Payload adapter(uint32_t number) const {
    Payload p(adapter_bytes());
    std::minstd_rand random(number + 1);
    for (uint8_t& b : p) b = static_cast<uint8_t>(random() >> 8);
    return p;
  }
  [[nodiscard]] RecordSpec spec(const Payload& p, uint32_t number, bool stable) const {
    const auto n = static_cast<uint32_t>(p.size());
    return {hash_, n, crc32(p.data(), n), number, number, stable};
  }

  void commit(uint32_t number, bool stable) {
    const Payload p = adapter(number);
    require(checkpoints.commit(p.data(), spec(p, number, stable)), Status::ok);
  }
  void swap_model(uint32_t kind_wanted) {
    const Payload p = model_payload(kind_wanted);
    const auto n = static_cast<uint32_t>(p.size());
    require(models.commit(p.data(), {p.data(), n, crc32(p.data(), n), 0, 0, true}), Status::ok);
    open_model();
  }
  void open_model() {
    std::copy_n(models.payload(), sizeof hash_, hash_);
    require(checkpoints.mount(&checkpoint_port_, hash_, adapter_bytes()), Status::ok);
  }

  RecordStore checkpoints, models;

 private:
  // The CRC of a payload that is what its header says, in bits that are sure.
  static uint32_t checked(const NorFlash& flash, const uint8_t* payload, const RecordInfo& info) {
    if (payload == nullptr) return 0;
    REQUIRE(flash.sure(payload - kRecordOverhead, 80));
    REQUIRE(flash.sure(payload, info.bytes));
    // One that was seen before is compared, which is faster.
    static std::unordered_map<uint32_t, Payload> seen;  // by CRC
    Payload& known = seen[info.crc];
    if (known.size() != info.bytes || std::memcmp(known.data(), payload, info.bytes) != 0) {
      REQUIRE(crc32(payload, info.bytes) == info.crc);
      known.assign(payload, payload + info.bytes);
    }
    return info.crc;
  }

  const Plan& plan_;
  Regions& regions_;
  Flash checkpoint_port_, model_port_;
  uint8_t hash_[32] = {};
};

}  // namespace kilotune::testing

#endif  // KILOTUNE_TESTS_POWER_DEVICE_H_
