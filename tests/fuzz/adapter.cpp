// Fuzzes pushed adapters: any bytes of the right length are refused without a trace, or are served.
#include "device.h"

using namespace kilotune;
using namespace kilotune::fuzz;

namespace {

struct Device {
  const Exact& image;
  Exact ram;
  std::unique_ptr<FuzzFlash> flash;
  std::unique_ptr<Engine> engine;

  Device(const Exact& content, uint8_t flash_choice)
      : image(content),
        ram(Engine::ram_bytes(content.data(), content.size())),
        flash(flash_for(load_u32(content.data() + 120), flash_choice)) {
    boot();
  }
  void boot() {
    engine = std::make_unique<Engine>();
    REQUIRE(engine->open(image.data(), image.size(), ram.data(), ram.size(), &flash->port) ==
            Status::ok);
  }
  [[nodiscard]] std::vector<uint8_t> adapter() const {
    return {engine->adapter(), engine->adapter() + engine->adapter_bytes()};
  }
};

// An adapter that this image has learned, as the ground that fuzzed values stand on.
const std::vector<uint8_t>& learned(size_t index) {
  static std::vector<std::vector<uint8_t>> all(images().size());
  if (all[index].empty()) {
    Device device(images()[index], 0);
    Engine& engine = *device.engine;
    LearnConfig config;
    config.passes = 2;
    config.train.rate = make_real(1, -10);
    config.labelled = labelled(engine) ? 1 : 0;
    if (engine.learn_begin(config) == Status::ok) {
      for (uint32_t i = 0; i < 3; ++i) feed(engine, 8, i);
      if (engine.learn_end() == Status::ok)
        while (engine.background()) {
        }
    }
    all[index] = device.adapter();
  }
  return all[index];
}

std::vector<uint8_t> fuzzed_adapter(Input& in, size_t index) {
  std::vector<uint8_t> out = learned(index);
  for (uint32_t n = in.u8() % 16; n > 0 && !out.empty(); --n) {
    const uint32_t at = in.u16() % static_cast<uint32_t>(out.size());
    const std::vector<uint8_t> patch = in.bytes(1 + in.u8() % 8);
    std::copy_n(patch.begin(), std::min(patch.size(), out.size() - at), out.begin() + at);
  }
  if (in.u8() % 8 == 0) {
    const std::vector<uint8_t> whole = in.bytes(out.size());
    std::copy(whole.begin(), whole.end(), out.begin());
  }
  return out;
}

Status push(Engine& engine, const std::vector<uint8_t>& adapter, uint32_t piece) {
  const auto size = static_cast<uint32_t>(adapter.size());
  Status status =
      engine.push_begin(engine.model().image_hash(), size, crc32(adapter.data(), size), 5, 6);
  for (uint32_t at = 0; status == Status::ok && at < size; at += piece)
    status = engine.push_append(at, adapter.data() + at, std::min(piece, size - at));
  return status == Status::ok ? engine.push_end() : status;
}

void use(Device& device, Input& in) {
  Engine& engine = *device.engine;
  REQUIRE(engine.infer() == Status::ok);
  feed(engine, 2, in.u8());
  if (engine.train_begin(read_train_config(in)) == Status::ok) {
    const std::vector<int8_t> target(engine.output_bytes(), 3);
    for (int i = 0; i < 2; ++i) REQUIRE(engine.train_step(1, target.data()) == Status::ok);
    if (in.u8() % 2 == 0) (void)engine.restore();
  }
  LearnConfig config = read_learn_config(in, labelled(engine));
  if (in.u8() % 4 != 0) config.resume = 1;
  if (engine.learn_begin(config) == Status::ok) {
    const uint8_t windows = in.u8();  // sometimes enough to follow a machine's age
    feed(engine, windows < 192 ? windows % 24 : windows % 64, in.u8());
    (void)engine.learn_end();
    for (int i = in.u8(); i > 0 && engine.background(); --i) {
    }
    if (engine.phase() != Phase::detect && in.u8() % 2 == 0) (void)engine.learn_cancel();
  }
  feed(engine, 1, in.u8());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  const size_t index = in.u8() % images().size();
  Device device(images()[index], in.u8());
  for (uint32_t rounds = in.u8() % 8 == 0 ? 2 : 1; rounds > 0; --rounds) {
    const std::vector<uint8_t> before = device.adapter(), sent = fuzzed_adapter(in, index);
    const RecordInfo checkpoint = device.engine->checkpoint();
    if (device.engine->phase() == Phase::train) (void)device.engine->learn_cancel();
    const uint32_t piece = 1 + in.u8();
    if (push(*device.engine, sent, piece) == Status::ok) {
      REQUIRE(device.adapter() == sent);
      REQUIRE(device.engine->checkpoint().windows == 5);
    } else {
      REQUIRE(device.engine->checkpoint().sequence == checkpoint.sequence);
    }
    use(device, in);
    const bool committed = device.engine->commit() == Status::ok;
    const std::vector<uint8_t> after = device.adapter();
    device.boot();
    if (committed) REQUIRE(device.adapter() == after);
  }
  return 0;
}
