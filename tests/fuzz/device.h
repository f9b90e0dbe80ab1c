// What the fuzz targets share: a reader of fuzz bytes, flash, and a device in exact allocations.
#ifndef KILOTUNE_TESTS_FUZZ_DEVICE_H_
#define KILOTUNE_TESTS_FUZZ_DEVICE_H_

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "kernel/bytes.h"
#include "runtime/engine/engine.h"

// A property that must hold whatever the input; the fuzzer keeps the input where it does not.
#define REQUIRE(condition)                                                         \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                \
    }                                                                              \
  } while (false)

namespace kilotune::fuzz {

// Fuzz bytes as numbers; zeros behind their end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : p_(data), end_(data + size) {}
  [[nodiscard]] bool empty() const { return p_ == end_; }
  [[nodiscard]] size_t left() const { return static_cast<size_t>(end_ - p_); }
  uint8_t u8() { return empty() ? uint8_t{0} : *p_++; }
  uint16_t u16() {
    const uint32_t low = u8();
    return static_cast<uint16_t>(low | uint32_t{u8()} << 8);
  }
  uint32_t u32() {
    const uint32_t low = u16();
    return low | uint32_t{u16()} << 16;
  }
  // Mostly small, sometimes a limit, sometimes anything.
  uint32_t number() {
    static constexpr uint32_t kLimits[] = {0xFFFFFFFFu, 0x80000000u, 0x7FFFFFFFu, 0x10000u,
                                           0xFFFFu,     0x8000u,     0x7FFFu,     0x100u};
    const uint8_t tag = u8();
    if (tag < 0xE0) return tag;
    return tag < 0xE8 ? kLimits[tag & 7] : (tag < 0xF4 ? u16() : u32());
  }
  std::vector<uint8_t> bytes(size_t n) {
    std::vector<uint8_t> out(p_, p_ + std::min(n, left()));
    p_ += out.size();
    return out;
  }

 private:
  const uint8_t *p_, *end_;
};

// Numbers that look random and follow from a seed.
class Noise {
 public:
  explicit Noise(uint32_t seed) : state_(seed * 2 + 1) {}
  uint32_t next() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<uint32_t>(state_ >> 33);
  }

 private:
  uint64_t state_;
};

// NOR flash that stops the run on a call that no chip would take.
class FuzzFlash {
 public:
  FuzzFlash(uint32_t sector_bytes, uint32_t sectors, uint32_t word_bytes)
      : bytes(size_t{sector_bytes} * sectors, 0xFF), port{bytes.data(), sector_bytes, sectors,
                                                          word_bytes,   this,         erase,
                                                          program} {}
  FuzzFlash(const FuzzFlash&) = delete;

  std::vector<uint8_t> bytes;
  Flash port;

 private:
  static Status erase(void* context, uint32_t off) {
    auto& self = *static_cast<FuzzFlash*>(context);
    const uint32_t n = self.port.sector_bytes;
    REQUIRE(off % n == 0 && off < self.bytes.size());
    std::memset(self.bytes.data() + off, 0xFF, n);
    return Status::ok;
  }
  static Status program(void* context, uint32_t off, const uint8_t* data, uint32_t n) {
    auto& self = *static_cast<FuzzFlash*>(context);
    const uint32_t word = self.port.word_bytes;
    REQUIRE(off % word == 0 && n % word == 0 && off + n <= self.bytes.size());
    for (uint32_t i = 0; i < n; ++i) {
      REQUIRE(self.bytes[off + i] == 0xFF || data[i] == 0);
      self.bytes[off + i] = data[i];
    }
    return Status::ok;
  }
};

// Bytes in an allocation of exactly their size, so that one byte beyond is caught.
class Exact {
 public:
  explicit Exact(size_t size) : data_(new uint8_t[size]()), size_(size) {}
  Exact(const uint8_t* data, size_t size) : Exact(size) {
    if (size != 0) std::memcpy(data_.get(), data, size);
  }
  [[nodiscard]] uint8_t* data() const { return data_.get(); }
  [[nodiscard]] uint32_t size() const { return static_cast<uint32_t>(size_); }
  [[nodiscard]] Memory memory() const { return {data(), size()}; }

 private:
  std::unique_ptr<uint8_t[]> data_;
  size_t size_;
};

// The valid images that seeds.py has compiled, in the order of their names.
inline const std::vector<Exact>& images() {
  static const std::vector<Exact> all = [] {
    const char* given = std::getenv("KILOTUNE_FUZZ_IMAGES");
    std::vector<std::filesystem::path> paths;
    for (const auto& entry :
         std::filesystem::directory_iterator(given != nullptr ? given : KILOTUNE_FUZZ_IMAGES))
      paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    std::vector<Exact> out;
    for (const auto& path : paths) {
      std::ifstream file(path, std::ios::binary);
      const std::string content((std::istreambuf_iterator<char>(file)), {});
      out.emplace_back(reinterpret_cast<const uint8_t*>(content.data()), content.size());
    }
    REQUIRE(!out.empty());
    return out;
  }();
  return all;
}

// Enough room for `slots` records of this image's adapter, in small sectors.
inline std::unique_ptr<FuzzFlash> flash_for(uint32_t adapter_bytes, uint8_t choice) {
  const uint32_t sector = 256u << (choice & 3u), word = 1u << ((choice >> 2) % 5);
  const uint32_t slots = 3 + (choice >> 6);
  return std::make_unique<FuzzFlash>(
      sector, slots * ((record_bytes(adapter_bytes) + sector - 1) / sector), word);
}

// `n` feature vectors of one machine: what windows look like that can be learned from.
inline std::vector<uint8_t> machine_windows(uint32_t features, uint32_t n, uint32_t seed) {
  Noise noise(seed);
  std::vector<uint8_t> out(size_t{2} * features * n);
  for (size_t i = 0; i < out.size() / 2; ++i)
    store_u16(out.data() + 2 * i, static_cast<uint16_t>(noise.next() % 2048));
  return out;
}

// A learning configuration, often a usable one.
inline TrainConfig read_train_config(Input& in) {
  TrainConfig c;
  const auto real = [&](int exponent) {
    const uint8_t mantissa = in.u8();
    const int32_t offset = static_cast<int8_t>(in.u8());
    const uint16_t full = static_cast<uint16_t>(0x8000u | mantissa << 7);
    return mantissa == 0 ? Real{} : Real{full, static_cast<int16_t>(exponent + offset)};
  };
  c.rate = real(-22);
  c.decay = real(-30);
  const uint8_t flags = in.u8();
  c.momentum_q15 = (flags & 1) != 0 ? static_cast<uint16_t>(in.u16() & 0x7FFFu) : uint16_t{0};
  c.accumulate = (flags & 2) != 0 ? static_cast<uint16_t>(1 + in.number() % 65535) : uint16_t{1};
  c.seed = in.number();
  return c;
}

inline LearnConfig read_learn_config(Input& in, bool labelled) {
  LearnConfig c;
  c.train = read_train_config(in);
  c.passes = static_cast<uint16_t>(in.u8() % 4);
  const uint8_t flags = in.u8();
  c.patience = (flags & 1) != 0 ? 1 : 0;
  c.resume = (flags & 2) != 0 ? 1 : 0;
  c.force = (flags & 4) != 0 ? 1 : 0;
  c.jitter = (flags & 8) != 0 ? 1 : 0;
  c.scorer = static_cast<Scorer>((flags >> 4) & 3);
  c.labelled = labelled ? 1 : 0;
  if ((flags & 64) != 0) {
    c.hold_period = static_cast<uint8_t>(1 + in.u8() % 255);
    c.hold_count = static_cast<uint8_t>(in.u8() % c.hold_period);
  }
  if ((flags & 128) != 0) {
    c.noise = in.u8();
    c.gain = in.u8();
    c.guard = static_cast<Guard>(in.u8() % 3);
    const uint8_t after = in.u8();
    c.recalibrate = after & 1;
    c.lives = (after >> 1) & 1;
  }
  return c;
}

// Streams ready feature vectors; labels are spread over the classes.
inline void feed(Engine& engine, uint32_t windows, uint32_t seed) {
  const FeatureConfig& f = engine.features();
  const uint16_t classes = engine.model().training().classes;
  const uint8_t label = classes == 0 ? uint8_t{0} : static_cast<uint8_t>(seed % classes);
  if (engine.stream_begin(StreamKind::features, f.rate_mhz, f.axes, label) != Status::ok) return;
  const std::vector<uint8_t> data = machine_windows(f.features_total, windows, seed);
  (void)engine.stream_push(data.data(), static_cast<uint32_t>(data.size()));
}

inline bool labelled(const Engine& engine) {
  return engine.model().trainable() && engine.model().training().loss == Loss::cross_entropy;
}

}  // namespace kilotune::fuzz

#endif  // KILOTUNE_TESTS_FUZZ_DEVICE_H_
