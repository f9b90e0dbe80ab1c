// Regions of one block of RAM: apart where the address sanitizer watches, else as close as ever.
#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "dense_image.h"
#include "kernel/pool.h"
#include "runtime/engine/engine.h"

using namespace kilotune;
using kilotune_test::DenseImage;
using kilotune_test::DenseSpec;
using kilotune_test::Optimiser;

namespace {

#ifdef KILOTUNE_HAS_GAPS
bool forbidden(const uint8_t* at) { return __asan_address_is_poisoned(at) != 0; }

// How many times bytes that may be used end within `bytes` at `at`.
uint32_t ends(const uint8_t* at, uint32_t bytes) {
  uint32_t found = 0;
  for (uint32_t i = 1; i < bytes; ++i) found += forbidden(at + i) && !forbidden(at + i - 1) ? 1 : 0;
  return found;
}
#endif

// An engine in RAM of just the size that its image asks for.
struct Device {
  explicit Device(const DenseSpec& spec)
      : image(spec),
        size(Engine::ram_bytes(image.data(), image.size())),
        ram(new uint64_t[size / 8]) {
    REQUIRE(size != 0);
    REQUIRE(size % 8 == 0);
    REQUIRE(open() == Status::ok);
  }
  Status open() { return engine.open(image.data(), image.size(), start(), size, nullptr); }
  [[nodiscard]] uint8_t* start() { return reinterpret_cast<uint8_t*>(ram.get()); }
  // Windows of a machine, and what comes of them.
  void learn(const LearnConfig& config) {
    REQUIRE(engine.learn_begin(config) == Status::ok);
    const FeatureConfig& f = engine.features();
    REQUIRE(engine.stream_begin(StreamKind::features, f.rate_mhz, f.axes, 0) == Status::ok);
    std::vector<uint8_t> windows;
    for (uint32_t i = 0; i < 20u * f.features_total; ++i) {
      windows.push_back(static_cast<uint8_t>(i * 73));
      windows.push_back(static_cast<uint8_t>(i % 5));
    }
    REQUIRE(engine.stream_push(windows.data(), static_cast<uint32_t>(windows.size())) ==
            Status::ok);
    REQUIRE(engine.learn_end() == Status::ok);
  }

  DenseImage image;
  uint32_t size;
  std::unique_ptr<uint64_t[]> ram;
  Engine engine;
};

DenseSpec of_ready_inputs() {
  DenseSpec spec;
  spec.optimiser = Optimiser::momentum;
  spec.inputs = spec.outputs = 5;
  return spec;
}

DenseSpec of_windows() {
  DenseSpec spec;
  spec.optimiser = Optimiser::momentum;
  spec.windows = 8;
  spec.early = 3;
  return spec;
}

LearnConfig of_two_passes() {
  LearnConfig config;
  config.train.rate = make_real(1, -4);
  config.passes = 2;
  return config;
}

}  // namespace

TEST_CASE("regions follow each other at multiples of 8, until the block is full") {
  alignas(8) static uint8_t block[24 + 3 * kGapBytes];
  Pool pool(block);
  CHECK(pool.take(5) == block);
  CHECK(pool.take(8) == block + 8 + kGapBytes);
  CHECK(pool.take(0) == block + 16 + 2 * kGapBytes);
  CHECK(pool.take(9) == nullptr);
  CHECK(pool.take(0xFFFFFFFFu) == nullptr);
  CHECK(pool.take(8) == block + 16 + 2 * kGapBytes);
  CHECK(pool.take(1) == nullptr);
  allow(block, sizeof block);
}

TEST_CASE("the engine asks for what its image needs, and for gaps only under the sanitizer") {
  const DenseImage ready(of_ready_inputs()), windows(of_windows());
  const auto up = [](uint32_t n) { return (n + 7) & ~7u; };
  const auto own = [&](const DenseImage& i) {
    return up(i.adapter_bytes()) + up(i.state_bytes()) + up(i.arena_bytes());
  };
  CHECK(Engine::ram_bytes(ready.data(), ready.size()) == own(ready) + 3 * kGapBytes);
  const uint32_t more = Engine::ram_bytes(windows.data(), windows.size()) -
                        up(windows.adapter_bytes()) - up(windows.state_bytes());
  // Work: the FFT of 64 points. Ring: the learner's area, larger than a window of 64 samples.
  const uint32_t learner = 88 + 12 * 4 + 4 * 8 + 4 + 6 * kGapBytes;
  CHECK(more == 4 * 64 + up(learner) + 2 * up(2 * 4) + 6 * kGapBytes);
}

#ifdef KILOTUNE_HAS_GAPS

TEST_CASE("behind every region of the engine's RAM, bytes are forbidden") {
  Device ready(of_ready_inputs());
  CHECK(ends(ready.start(), ready.size) == 3);  // adapter, state, arena
  CHECK_FALSE(forbidden(ready.engine.adapter() + ready.engine.adapter_bytes() - 1));
  CHECK(forbidden(ready.engine.adapter() + ready.engine.adapter_bytes()));
  Device windows(of_windows());
  CHECK(ends(windows.start(), windows.size) == 6);  // and window, features, trend
}

TEST_CASE("behind every region of the learner's work area, bytes are forbidden while it learns") {
  Device device(of_windows());
  const uint32_t before = ends(device.start(), device.size);
  device.learn(of_two_passes());
  CHECK(ends(device.start(), device.size) == before + 5);  // six regions where the window was
  while (device.engine.background()) {
  }
  CHECK(ends(device.start(), device.size) == before);
  device.learn(of_two_passes());
  REQUIRE(device.engine.learn_cancel() == Status::ok);
  CHECK(ends(device.start(), device.size) == before);
  device.learn(of_two_passes());
  REQUIRE(device.open() == Status::ok);
  CHECK(ends(device.start(), device.size) == before);
}

#endif

TEST_CASE("an engine needs RAM at a multiple of 8") {
  const DenseImage image(of_ready_inputs());
  const uint32_t need = Engine::ram_bytes(image.data(), image.size());
  const std::unique_ptr<uint64_t[]> ram(new uint64_t[need / 8 + 1]);
  for (uint32_t shift = 1; shift < 8; ++shift) {
    Engine engine;
    uint8_t* at = reinterpret_cast<uint8_t*>(ram.get()) + shift;
    CHECK(engine.open(image.data(), image.size(), at, need, nullptr) == Status::bad_argument);
    CHECK_FALSE(engine.is_open());
    CHECK(engine.train_step(0, nullptr) == Status::no_model);
  }
}

TEST_CASE("the engine takes no step that nothing has begun") {
  Device device(of_ready_inputs());
  const TrainConfig config = {make_real(1, -4), {}};
  CHECK(device.engine.train_step(0, nullptr) == Status::wrong_state);
  CHECK(device.engine.train_begin(TrainConfig{}) == Status::bad_argument);
  CHECK(device.engine.train_step(0, nullptr) == Status::wrong_state);
  REQUIRE(device.engine.train_begin(config) == Status::ok);
  CHECK(device.engine.train_step(0, nullptr) == Status::ok);
  REQUIRE(device.engine.restore() == Status::ok);  // another adapter
  CHECK(device.engine.train_step(0, nullptr) == Status::wrong_state);
  CHECK(device.engine.counters().train_steps == 1);
}

TEST_CASE("what a learn phase has begun is not gone on with, step by step") {
  Device device(of_windows());
  device.learn(of_two_passes());
  CHECK(device.engine.train_step(0, nullptr) == Status::busy);
  while (device.engine.background()) {
  }
  REQUIRE(device.engine.phase() == Phase::detect);
  CHECK(device.engine.train_step(0, nullptr) == Status::wrong_state);
}

TEST_CASE("calibration alone needs no learning rate, training does") {
  Device device(of_windows());
  LearnConfig config;
  CHECK(device.engine.learn_begin(config) == Status::bad_argument);
  config.passes = 0;
  device.learn(config);
  while (device.engine.background()) {
  }
  CHECK(device.engine.report().learned != 0);
  CHECK(device.engine.phase() == Phase::detect);
}
