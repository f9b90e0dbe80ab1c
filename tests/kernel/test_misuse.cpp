// What a program may do wrong with the kernel: each is a status, and nothing is written.
#include <doctest/doctest.h>
#include <kilotune.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "dense_image.h"

using namespace kilotune;
using kilotune_test::DenseImage;
using kilotune_test::DenseSpec;
using kilotune_test::Optimiser;

namespace {

const OpKernel* const kOps[] = {&kFullyConnected, &kAdam, nullptr};

// RAM in an allocation of its own, `shift` bytes off a multiple of 8, filled with a pattern.
struct Ram {
  Ram(uint32_t n, uint32_t shift = 0) : size(n), block(new uint8_t[n + shift]), at(block.get()) {
    at += shift;
    std::memset(at, 0xA5, n);
  }
  [[nodiscard]] Memory memory() const { return {at, size}; }
  [[nodiscard]] bool untouched() const {
    return std::all_of(at, at + size, [](uint8_t b) { return b == 0xA5; });
  }

  uint32_t size;
  std::unique_ptr<uint8_t[]> block;
  uint8_t* at;
};

TrainConfig rate_one() { return {make_real(1, 0), {}}; }

// A model and a trainer with just the memory that they need.
struct Bench {
  explicit Bench(const DenseSpec& spec)
      : image(spec),
        arena(image.arena_bytes()),
        adapter(image.adapter_bytes()),
        state(image.state_bytes()) {
    REQUIRE(model.open(image.data(), image.size(), kOps) == Status::ok);
    REQUIRE(open() == Status::ok);
    show(50);
  }
  Status open() { return trainer.open(model, arena.memory(), adapter.memory(), state.memory()); }
  void show(int8_t value) { std::memset(trainer.input(), value, image.input_bytes()); }
  [[nodiscard]] std::vector<uint8_t> parameters() const {
    return {adapter.at, adapter.at + adapter.size};
  }
  // A step is refused like this, and changes no parameter.
  void refuses(const Target& target, Status status) {
    const std::vector<uint8_t> before = parameters();
    const uint32_t steps = trainer.steps();
    CHECK(trainer.step(target) == status);
    CHECK(parameters() == before);
    CHECK(trainer.steps() == steps);
  }

  DenseImage image;
  Model model;
  Ram arena, adapter, state;
  Trainer trainer;
};

DenseSpec spec_of(Loss loss, Optimiser optimiser = Optimiser::plain) {
  DenseSpec spec;
  spec.loss = loss;
  spec.optimiser = optimiser;
  return spec;
}

}  // namespace

TEST_CASE("the image of these tests trains, with every loss and optimiser") {
  for (const Loss loss : {Loss::reconstruction, Loss::regression, Loss::cross_entropy}) {
    for (const Optimiser o : {Optimiser::plain, Optimiser::momentum, Optimiser::adam}) {
      CAPTURE(static_cast<int>(loss));
      CAPTURE(static_cast<int>(o));
      DenseSpec spec = spec_of(loss, o);
      spec.weights = loss != Loss::reconstruction;
      Bench bench(spec);
      const int8_t values[4] = {9, 8, 7, 6};
      Target target;
      if (loss == Loss::regression) target = Target::of_values(values, 4);
      if (loss == Loss::cross_entropy) target = Target::of_class(2);
      const std::vector<uint8_t> before = bench.parameters();
      TrainConfig config = rate_one();
      config.rate = make_real(1, 10);
      REQUIRE(bench.trainer.begin(config) == Status::ok);
      for (int i = 0; i < 8; ++i) {
        bench.show(50);
        REQUIRE(bench.trainer.step(target) == Status::ok);
      }
      CHECK(bench.trainer.steps() == 8);
      CHECK(bench.parameters() != before);
      CHECK(bench.trainer.parameters_valid(bench.adapter.at, bench.adapter.size));
    }
  }
}

TEST_CASE("memory that is one byte short is refused, and nothing is written") {
  const DenseImage image(spec_of(Loss::reconstruction, Optimiser::momentum));
  Model model;
  REQUIRE(model.open(image.data(), image.size(), kOps) == Status::ok);
  for (int block = 0; block < 3; ++block) {
    const Ram arena(image.arena_bytes() - (block == 0)),
        adapter(image.adapter_bytes() - (block == 1));
    const Ram state(image.state_bytes() - (block == 2));
    Trainer trainer;
    CHECK(trainer.open(model, arena.memory(), adapter.memory(), state.memory()) ==
          Status::no_memory);
    CHECK((arena.untouched() && adapter.untouched() && state.untouched()));
    CHECK(trainer.input() == nullptr);
  }
}

TEST_CASE("memory at an address that is no multiple of 4 is refused, and nothing is written") {
  const DenseImage image(spec_of(Loss::reconstruction, Optimiser::momentum));
  Model model;
  REQUIRE(model.open(image.data(), image.size(), kOps) == Status::ok);
  for (uint32_t shift = 1; shift < 4; ++shift) {
    for (int block = 0; block < 3; ++block) {
      const Ram arena(image.arena_bytes(), block == 0 ? shift : 0);
      const Ram adapter(image.adapter_bytes(), block == 1 ? shift : 0);
      const Ram state(image.state_bytes(), block == 2 ? shift : 0);
      Trainer trainer;
      CHECK(trainer.open(model, arena.memory(), adapter.memory(), state.memory()) ==
            Status::bad_argument);
      CHECK((arena.untouched() && adapter.untouched() && state.untouched()));
    }
  }
}

TEST_CASE("memory that is needed may be neither null nor missing") {
  const DenseImage image(spec_of(Loss::reconstruction, Optimiser::momentum));
  Model model;
  REQUIRE(model.open(image.data(), image.size(), kOps) == Status::ok);
  const Ram arena(image.arena_bytes()), adapter(image.adapter_bytes()), state(image.state_bytes());
  const Memory blocks[] = {arena.memory(), adapter.memory(), state.memory()};
  for (int missing = 0; missing < 3; ++missing) {
    Memory given[3];
    std::copy(blocks, blocks + 3, given);
    Trainer trainer;
    given[missing] = {};
    CHECK(trainer.open(model, given[0], given[1], given[2]) == Status::no_memory);
    given[missing] = {nullptr, 4096};
    CHECK(trainer.open(model, given[0], given[1], given[2]) == Status::bad_argument);
  }
}

TEST_CASE("an array brings its own length, and what an image does not need may be left out") {
  const DenseImage image(spec_of(Loss::reconstruction));
  alignas(4) uint8_t arena[64], adapter[16], little[15];
  Model model;
  Trainer trainer;
  REQUIRE(model.open(image.data(), image.size(), kOps) == Status::ok);
  CHECK(trainer.open(model, arena, little, {}) == Status::no_memory);
  CHECK(trainer.open(model, arena, adapter, {}) == Status::ok);
}

TEST_CASE("a trainer starts from the base model's parameters, whatever its memory holds") {
  DenseSpec spec = spec_of(Loss::regression);
  spec.weights = true;
  Bench bench(spec);
  const std::vector<uint8_t> base = bench.parameters();
  CHECK(bench.trainer.parameters_valid(base.data(), bench.adapter.size));
  std::memset(bench.adapter.at, 0x7F, bench.adapter.size);
  REQUIRE(bench.open() == Status::ok);
  CHECK(bench.parameters() == base);
}

TEST_CASE("a model that is not open is none to train") {
  const DenseImage image(spec_of(Loss::reconstruction));
  const Ram ram(4096);
  Model model;
  Trainer trainer;
  CHECK(trainer.open(model, ram.memory(), ram.memory(), ram.memory()) == Status::bad_argument);
  CHECK(model.open(image.data(), image.size() - 4, kOps) == Status::truncated);
  CHECK_FALSE(model.is_open());
  CHECK(trainer.open(model, ram.memory(), ram.memory(), ram.memory()) == Status::bad_argument);
  CHECK(ram.untouched());
}

TEST_CASE("an image at an address that is no multiple of 4 is refused") {
  const DenseImage image(spec_of(Loss::reconstruction));
  for (uint32_t shift = 1; shift < 4; ++shift) {
    const Ram copy(image.size(), shift);
    std::memcpy(copy.at, image.data(), image.size());
    Model model;
    CHECK(model.open(copy.at, copy.size, kOps) == Status::bad_argument);
    CHECK_FALSE(model.is_open());
  }
}

TEST_CASE("neither image nor operators may be null") {
  const DenseImage image(spec_of(Loss::reconstruction));
  Model model;
  CHECK(model.open(nullptr, 0, kOps) == Status::truncated);
  CHECK(model.open(nullptr, 4096, kOps) == Status::bad_argument);
  CHECK(model.open(image.data(), image.size(), nullptr) == Status::bad_argument);
  CHECK(model.open(image.data(), image.size(), kOps) == Status::ok);
}

TEST_CASE("a model that trainers rely on is not opened again, nor copied") {
  static_assert(!std::is_copy_assignable_v<Model> && !std::is_move_assignable_v<Model>);
  const DenseImage small(spec_of(Loss::reconstruction));
  DenseSpec spec = spec_of(Loss::reconstruction);
  spec.inputs = spec.outputs = 64;
  const DenseImage large(spec);
  Bench bench(spec_of(Loss::reconstruction));
  CHECK(bench.model.open(large.data(), large.size(), kOps) == Status::wrong_state);
  CHECK(bench.trainer.forward() == Status::ok);
}

TEST_CASE("a closed trainer refuses everything") {
  Trainer trainer;
  uint64_t loss = 77;
  const uint8_t bytes[4] = {};
  CHECK(trainer.input() == nullptr);
  CHECK(trainer.output() == nullptr);
  CHECK(trainer.forward() == Status::wrong_state);
  CHECK(trainer.forward(true) == Status::wrong_state);
  CHECK(trainer.begin(rate_one()) == Status::wrong_state);
  CHECK(trainer.step({}) == Status::wrong_state);
  CHECK(trainer.loss({}, loss) == Status::wrong_state);
  CHECK(loss == 77);
  CHECK(trainer.scale_rate(make_real(1, 0)) == Status::wrong_state);
  CHECK(trainer.reset_parameters() == Status::wrong_state);
  CHECK(trainer.copy_parameters(bytes, 4) == Status::wrong_state);
  CHECK_FALSE(trainer.parameters_valid(bytes, 4));
  CHECK(trainer.steps() == 0);
}

TEST_CASE("a trainer whose opening is refused is closed, even if it was open before") {
  Bench bench(spec_of(Loss::reconstruction));
  REQUIRE(bench.trainer.begin(rate_one()) == Status::ok);
  const std::vector<uint8_t> before = bench.parameters();
  CHECK(bench.trainer.open(bench.model, bench.arena.memory(), {}, {}) == Status::no_memory);
  CHECK(bench.trainer.step({}) == Status::wrong_state);
  CHECK(bench.trainer.forward() == Status::wrong_state);
  CHECK(bench.parameters() == before);
}

TEST_CASE("a step needs a training that has begun") {
  Bench bench(spec_of(Loss::reconstruction));
  bench.refuses({}, Status::wrong_state);
  CHECK(bench.trainer.scale_rate(make_real(1, 0)) == Status::wrong_state);
  REQUIRE(bench.trainer.begin(rate_one()) == Status::ok);
  CHECK(bench.trainer.step({}) == Status::ok);
  bench.trainer.end();
  bench.refuses({}, Status::wrong_state);
}

TEST_CASE("a refused beginning leaves no training under way") {
  Bench bench(spec_of(Loss::reconstruction));
  TrainConfig config = rate_one();
  REQUIRE(bench.trainer.begin(config) == Status::ok);
  config.accumulate = 4;  // needs state, which this image has none of
  REQUIRE(bench.trainer.begin(config) == Status::bad_argument);
  bench.refuses({}, Status::wrong_state);
}

TEST_CASE("a refused beginning with an image for Adam writes nothing behind its state") {
  Bench bench(spec_of(Loss::reconstruction, Optimiser::adam));
  TrainConfig config = rate_one();
  config.accumulate = 4;
  REQUIRE(bench.trainer.begin(config) == Status::bad_argument);
  bench.refuses({}, Status::wrong_state);
  CHECK(bench.state.untouched());
}

TEST_CASE("other parameters end training, and so does opening again") {
  Bench bench(spec_of(Loss::reconstruction, Optimiser::momentum));
  const std::vector<uint8_t> base = bench.parameters();
  const auto ends = [&](Status status) {
    CHECK(status == Status::ok);
    bench.refuses({}, Status::wrong_state);
    REQUIRE(bench.trainer.begin(rate_one()) == Status::ok);
    CHECK(bench.trainer.step({}) == Status::ok);
  };
  ends(bench.trainer.reset_parameters());
  ends(bench.trainer.copy_parameters(base.data(), bench.adapter.size));
  ends(bench.open());
}

TEST_CASE("a configuration that would learn nothing, or that has no meaning, is refused") {
  Bench plain(spec_of(Loss::reconstruction)), adam(spec_of(Loss::reconstruction, Optimiser::adam));
  CHECK(plain.trainer.begin(TrainConfig{}) == Status::bad_argument);
  TrainConfig config = rate_one();
  config.rate = {};
  config.decay = make_real(1, 0);
  CHECK(plain.trainer.begin(config) == Status::bad_argument);
  config = rate_one();
  config.accumulate = 0;
  CHECK(plain.trainer.begin(config) == Status::bad_argument);
  CHECK(adam.trainer.begin(config) == Status::bad_argument);
  config = rate_one();
  config.momentum_q15 = 1;
  CHECK(plain.trainer.begin(config) == Status::bad_argument);
  CHECK(adam.trainer.begin(config) == Status::ok);
  config.momentum_q15 = 32768;
  CHECK(adam.trainer.begin(config) == Status::bad_argument);
}

TEST_CASE("an image for inference runs, and refuses to train by name") {
  DenseSpec spec;
  spec.trains = false;
  Bench bench(spec);
  uint64_t loss = 77;
  CHECK(bench.trainer.forward() == Status::ok);
  CHECK(bench.trainer.forward(true) == Status::not_trainable);
  CHECK(bench.trainer.begin(rate_one()) == Status::not_trainable);
  CHECK(bench.trainer.step({}) == Status::not_trainable);
  CHECK(bench.trainer.loss({}, loss) == Status::not_trainable);
  CHECK(loss == 77);
}

TEST_CASE("an image for inference takes the place of one that trained") {
  DenseSpec spec;
  spec.trains = false;
  const DenseImage image(spec);
  Bench bench(spec_of(Loss::reconstruction));
  REQUIRE(bench.trainer.begin(rate_one()) == Status::ok);
  Model model;
  REQUIRE(model.open(image.data(), image.size(), kOps) == Status::ok);
  REQUIRE(bench.trainer.open(model, bench.arena.memory(), {}, {}) == Status::ok);
  CHECK(bench.trainer.step({}) == Status::not_trainable);
}

TEST_CASE("a target is one that the loss knows, of the right length") {
  const int8_t values[5] = {1, 2, 3, 4, 5};
  struct Case {
    Loss loss;
    Target target;
    Status status;
  };
  const Case cases[] = {
      {Loss::reconstruction, {}, Status::ok},
      {Loss::reconstruction, Target::of_values(values, 4), Status::ok},
      {Loss::reconstruction, Target::of_values(values, 3), Status::bad_argument},
      {Loss::reconstruction, Target::of_values(values, 5), Status::bad_argument},
      {Loss::reconstruction, Target::of_class(1), Status::bad_argument},
      {Loss::regression, {}, Status::bad_argument},
      {Loss::regression, Target::of_values(values, 4), Status::ok},
      {Loss::regression, Target::of_values(values, 3), Status::bad_argument},
      {Loss::regression, Target::of_values(nullptr, 4), Status::bad_argument},
      {Loss::regression, Target::of_class(1), Status::bad_argument},
      {Loss::regression, {values, 4, 0}, Status::bad_argument},
      {Loss::cross_entropy, {}, Status::bad_argument},
      {Loss::cross_entropy, Target::of_class(0), Status::ok},
      {Loss::cross_entropy, Target::of_class(3), Status::ok},
      {Loss::cross_entropy, Target::of_class(4), Status::bad_argument},
      {Loss::cross_entropy, Target::of_class(999), Status::bad_argument},
      {Loss::cross_entropy, Target::of_values(values, 4), Status::bad_argument},
      {Loss::cross_entropy, {values, 4, 1}, Status::bad_argument},
  };
  for (const Case& c : cases) {
    CAPTURE(&c - cases);
    Bench bench(spec_of(c.loss));
    REQUIRE(bench.trainer.begin(rate_one()) == Status::ok);
    uint64_t loss = 0;
    CHECK(bench.trainer.loss(c.target, loss) == c.status);
    if (c.status == Status::ok) {
      CHECK(bench.trainer.step(c.target) == Status::ok);
    } else {
      bench.refuses(c.target, c.status);
    }
  }
}

TEST_CASE("parameters that are null, of another length or out of range are not taken over") {
  DenseSpec spec = spec_of(Loss::regression);
  spec.weights = true;
  Bench bench(spec);
  const std::vector<uint8_t> base = bench.parameters();
  const uint32_t size = bench.adapter.size;
  const auto refused = [&](const uint8_t* bytes, uint32_t n) {
    CHECK_FALSE(bench.trainer.parameters_valid(bytes, n));
    CHECK(bench.trainer.copy_parameters(bytes, n) == Status::bad_argument);
    CHECK(bench.parameters() == base);
  };
  refused(nullptr, size);
  refused(nullptr, 0);
  refused(base.data(), size - 1);
  refused(base.data(), size + 1);
  std::vector<uint8_t> wrong = base;
  store_u32(wrong.data(), 0x80000000u);  // a bias
  refused(wrong.data(), size);
  wrong = base;
  store_u16(wrong.data() + 16, 0x8000u);  // a weight
  refused(wrong.data(), size);
}

TEST_CASE(
    "a program without cross-entropy refuses a classifier, and one without decay refuses that") {
  Bench classifier(spec_of(Loss::cross_entropy)), coder(spec_of(Loss::reconstruction));
  CHECK(classifier.trainer.open(classifier.model, classifier.arena.memory(),
                                classifier.adapter.memory(), {},
                                kPlainSquaredError) == Status::unsupported_op);
  CHECK(classifier.trainer.step(Target::of_class(0)) == Status::wrong_state);
  REQUIRE(coder.trainer.open(coder.model, coder.arena.memory(), coder.adapter.memory(), {},
                             kPlainSquaredError) == Status::ok);
  TrainConfig config = rate_one();
  config.decay = make_real(1, -4);
  CHECK(coder.trainer.begin(config) == Status::bad_argument);
  coder.refuses({}, Status::wrong_state);
  CHECK(coder.trainer.begin(rate_one()) == Status::ok);
  coder.show(50);
  CHECK(coder.trainer.step({}) == Status::ok);
}
