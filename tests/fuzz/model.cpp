// Fuzzes the model image: whatever the validation lets through is executed, trained and learned on.
#include "device.h"
#include "kernel/trainer.h"
#include "runtime/engine/operators.h"

using namespace kilotune;
using namespace kilotune::fuzz;

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

constexpr uint32_t kMemory = 1u << 20;  // of the device that is fuzzed

// The checks that no mutation gets past are made good again: magic, version, size and CRC.
void repair(Exact& image) {
  uint8_t* h = image.data();
  const uint32_t size = image.size() & ~3u;
  if (size < kHeaderBytes) return;
  store_u32(h, 0x314D544Bu);
  store_u16(h + 4, 2);
  store_u16(h + 6, kHeaderBytes);
  store_u32(h + 8, size);
  store_u32(h + 12, crc32(h + 16, size - 16));
}

// Operators whose first word is the extent of a window.
bool has_window(uint8_t opcode) {
  for (const OpKernel* k : {&kConv2D, &kDepthwiseConv2D, &kAveragePool2D, &kMaxPool2D,
                            &kTransposeConv, &kAdaptedLayer}) {
    if (k->opcode == opcode) return true;
  }
  return false;
}

// Whether a few passes take moments: a valid image may describe hours of work.
bool is_short(const Exact& image) {
  constexpr uint64_t kMostProducts = 1u << 22;
  Model model;
  if (model.open(image.data(), image.size(), operator_table()) != Status::ok) return false;
  uint64_t products = 0;
  for (uint16_t i = 0; i < model.op_count; ++i) {
    const Op op = model.op(i);
    const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
    const uint64_t window = uint64_t{op.words[0] & 0xFFFFu} * (op.words[0] >> 16);
    const uint64_t taps = has_window(op.opcode) && window < 1u << 24 ? window + 1 : 1;
    const uint64_t positions = uint64_t{x.positions()} + y.positions();
    products += positions * taps * x.channels * y.channels;
  }
  return products <= kMostProducts;
}

// Forward, a few training steps and a loss, in memory of exactly the size that the image asks for.
void train(const Exact& image, Input& in) {
  Model model;
  if (model.open(image.data(), image.size(), operator_table()) != Status::ok) return;
  if (model.arena_bytes > kMemory || model.adapter_bytes > kMemory || model.state_bytes > kMemory)
    return;
  Exact arena(model.arena_bytes), adapter(model.adapter_bytes), state(model.state_bytes);
  Trainer trainer;
  REQUIRE(trainer.open(model, arena.memory(), adapter.memory(), state.memory()) == Status::ok);
  REQUIRE(trainer.parameters_valid(adapter.data(), adapter.size()));
  const uint32_t inputs = model.tensor(model.input).elements();
  Noise noise(in.u8());
  const auto fill = [&] {
    for (uint32_t i = 0; i < inputs; ++i) trainer.input()[i] = static_cast<int8_t>(noise.next());
  };
  fill();
  REQUIRE(trainer.forward() == Status::ok);
  TrainConfig config = read_train_config(in);
  if (trainer.begin(config) != Status::ok) {  // most images have no room for more than plain steps
    config.momentum_q15 = 0;
    config.accumulate = 1;
    if (trainer.begin(config) != Status::ok) return;
  }
  const Training t = model.training();
  const std::vector<int8_t> values(model.tensor(t.tensor).elements(), 17);
  Target target;
  if (t.loss == Loss::regression)
    target = Target::of_values(values.data(), static_cast<uint16_t>(values.size()));
  if (t.loss == Loss::cross_entropy) target = Target::of_class(1);
  for (int step = 0; step < 3; ++step) {
    fill();
    REQUIRE(trainer.step(target) == Status::ok);
  }
  REQUIRE(trainer.parameters_valid(adapter.data(), adapter.size()));
  fill();
  uint64_t loss = 0;
  REQUIRE(trainer.loss(target, loss) == Status::ok);
}

void learn(const Exact& image, Input& in) {
  const uint32_t need = Engine::ram_bytes(image.data(), image.size());
  if (need == 0 || need > kMemory) return;
  Exact ram(need);
  auto engine = std::make_unique<Engine>();
  REQUIRE(engine->open(image.data(), image.size(), ram.data(), need - 1, nullptr) ==
          Status::no_memory);
  const auto flash = flash_for(load_u32(image.data() + 120), in.u8());
  REQUIRE(engine->open(image.data(), image.size(), ram.data(), need, &flash->port) == Status::ok);
  REQUIRE(engine->infer() == Status::ok);
  if (engine->model().features == 0) return;
  if (engine->learn_begin(read_learn_config(in, labelled(*engine))) != Status::ok) return;
  feed(*engine, 1 + in.u8() % 40, in.u8());
  (void)engine->learn_end();
  for (int i = 0; i < 400 && engine->background(); ++i) {
  }
  feed(*engine, 2, 3);
  if (engine->phase() == Phase::train) return;
  const FeatureConfig& f = engine->features();
  if (engine->stream_begin(StreamKind::samples, f.rate_mhz, f.axes, 0) == Status::ok) {
    Noise noise(7);
    std::vector<uint8_t> samples(size_t{2} * f.axes * (f.window + f.hop));
    for (uint8_t& b : samples) b = static_cast<uint8_t>(noise.next());
    REQUIRE(engine->stream_push(samples.data(), static_cast<uint32_t>(samples.size())) ==
            Status::ok);
  }
  const bool committed = engine->commit() == Status::ok;
  const std::vector<uint8_t> before(engine->adapter(), engine->adapter() + engine->adapter_bytes());
  auto again = std::make_unique<Engine>();
  REQUIRE(again->open(image.data(), image.size(), ram.data(), need, &flash->port) == Status::ok);
  if (committed) REQUIRE(std::equal(before.begin(), before.end(), again->adapter()));
}

}  // namespace

// Fields are overwritten where they stand: inserted and removed bytes would only move all offsets.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  Noise noise(seed);
  if (size < kHeaderBytes) {
    const Exact& image = images()[noise.next() % images().size()];
    if (image.size() > max_size) return size;
    std::memcpy(data, image.data(), image.size());
    return image.size();
  }
  if (noise.next() % 32 == 0) return LLVMFuzzerMutate(data, size, max_size);
  static constexpr uint32_t kValues[] = {
      0,    1,      2,      3,      4,       8,          0x7F,        0x80,
      0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000u, 0xFFFFFFFFu};
  const uint32_t tensors = load_u32(data + 88), ops = load_u32(data + 92);
  for (uint32_t n = 1 + noise.next() % 3; n > 0; --n) {
    uint32_t at = 128 + noise.next() % static_cast<uint32_t>(size - 127);
    switch (noise.next() % 10) {
      case 0:
        at = 80 + noise.next() % 48;
        break;
      case 1:
        at = tensors + noise.next() % (kTensorBytes * (1u + load_u16(data + 80)));
        break;
      case 2:
      case 3:
        at = ops + noise.next() % (kOpBytes * (1u + load_u16(data + 82)));
        break;
      case 4:
        at = load_u32(data + 96) + noise.next() % kTrainingBytes;
        break;
      case 5:
        at = load_u32(data + 100) + noise.next() % 64;
        break;
      case 6:
        at = load_u32(data + 104) + noise.next() % 64;
        break;
      case 7: {  // training entry of an op
        const uint64_t op = ops + uint64_t{kOpBytes} * (noise.next() % (1u + load_u16(data + 82)));
        if (op + kOpBytes <= size) at = load_u32(data + op + 36) + noise.next() % kOpTrainingBytes;
        break;
      }
      default:
        break;
    }
    if (at > size - 4) at = static_cast<uint32_t>(size) - 4;
    const uint32_t value =
        noise.next() % 3 == 0 ? noise.next() : kValues[noise.next() % std::size(kValues)];
    switch (noise.next() % 5) {
      case 0:
        data[at] ^= static_cast<uint8_t>(1u << noise.next() % 8);
        break;
      case 1:
        data[at] = static_cast<uint8_t>(value);
        break;
      case 2:
        store_u16(data + (at & ~1u), static_cast<uint16_t>(value));
        break;
      case 3:
        store_u32(data + (at & ~3u), value);
        break;
      default:
        store_u32(data + (at & ~3u), load_u32(data + (at & ~3u)) + (noise.next() % 9) - 4);
    }
  }
  return size;
}

// The image, and what is done with it: the last 16 bytes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kPlan = 16;
  if (size < kPlan) return 0;
  Exact image(data, size - kPlan);
  repair(image);
  if (!is_short(image)) return 0;
  train(image, *std::make_unique<Input>(data + size - kPlan, kPlan));
  learn(image, *std::make_unique<Input>(data + size - kPlan, kPlan));
  return 0;
}
