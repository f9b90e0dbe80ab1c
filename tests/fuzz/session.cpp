// Fuzzes frames and session over the real engine: requests with a right CRC and fuzzed fields,
// noise, background training, a sensor and restarts on the same flash, in any order. Some devices
// are locked: nothing that comes without their key may change them.
#include "runtime/link/session.h"

#include "message.h"
#include "schema/shapes.h"
#include "session_device.h"

using namespace kilotune;
using namespace kilotune::fuzz;

namespace {

// What a field may well be: a number of this very device.
uint32_t known(Device& device, Input& in) {
  Engine& e = device.engine();
  const uint32_t all[] = {e.adapter_bytes(),
                          e.input_bytes(),
                          e.output_bytes(),
                          e.frame_bytes(),
                          e.results_end(),
                          e.train_steps(),
                          kChunkBytes,
                          kMaxFrame,
                          e.features().rate_mhz,
                          e.features().axes,
                          1,
                          0};
  return all[in.u8() % std::size(all)];
}

// A field of the request, mostly as the device wants it.
void put_field(Message& m, const FieldShape& field, Device& device, Input& in) {
  const uint8_t how = in.u8();
  const bool right = how < 240;
  if (right && field.name == "image_hash") {
    m.bytes(device.engine().model().image_hash(), kHashBytes);
  } else if (right && field.name == "rate_mhz") {
    m.number(device.engine().features().rate_mhz);
  } else if (right && field.name == "count") {  // as many runs as asked for: they take time
    m.number(how % 4u);
  } else if (right && field.bytes != 0) {
    std::vector<uint8_t> bytes = in.bytes(field.bytes);
    bytes.resize(field.bytes);
    m.bytes(bytes);
  } else if (field.type == 'b') {
    m.bytes(in.bytes(how < 16 ? known(device, in) % 512 : how));
  } else if (field.type == 'i') {
    m.integer(static_cast<int8_t>(how) - 20);
  } else {
    m.number(how < 64 ? how % 4u : (how < 128 ? known(device, in) : in.number()));
  }
}

void fuzzed_request(Device& device, Input& in) {
  const RequestShape& r = kRequestShapes[in.u8() % std::size(kRequestShapes)];
  Message m;
  for (uint32_t i = 0; i < r.count; ++i) put_field(m, r.fields[i], device, in);
  std::vector<uint8_t> message = m.finish();
  if (r.count == 0) message.clear();
  const uint8_t flaw = in.u8();
  if (flaw >= 0xF8) message.resize(flaw == 0xFF ? message.size() / 2 : message.size() + 1);
  const uint8_t place = in.u8();
  device.send(static_cast<Kind>(r.kind), message, place < 240 ? 1 : place - 248,
              place == 0 ? uint16_t{9} : uint16_t{0});
}

void put_config(Message& m, const TrainConfig& c) {
  m.number(c.rate.mantissa).integer(c.rate.exponent).number(c.decay.mantissa);
  m.integer(c.decay.exponent).number(c.momentum_q15).number(c.accumulate).number(c.seed);
}

void learn(Device& device, Input& in) {
  const FeatureConfig f = device.engine().features();
  const LearnConfig c = read_learn_config(in, labelled(device.engine()));
  Message begin;
  put_config(begin, c.train);
  begin.number(c.passes).number(c.patience).number(c.hold_period).number(c.hold_count);
  begin.number(c.labelled).number(c.resume).number(static_cast<uint32_t>(c.scorer)).number(c.force);
  begin.number(c.noise).number(c.gain).number(c.jitter);
  begin.number(static_cast<uint32_t>(c.guard)).number(c.recalibrate).number(c.lives);
  device.send(Kind::learn_begin, begin.finish());
  const uint8_t kind = in.u8() % 4 == 0 ? 0 : 1;
  const uint8_t label = in.u8() % 6;
  device.send(Kind::stream_begin, Message()
                                      .number(5)
                                      .number(kind)
                                      .number(f.rate_mhz)
                                      .number(f.axes)
                                      .number(label % 3)
                                      .finish());
  const uint32_t frame = device.engine().frame_bytes();
  uint32_t offset = 0;
  for (uint32_t n = in.u8() % 4; n > 0 && frame > 0; --n) {
    const uint32_t windows = std::min(8u, kChunkBytes / frame);
    std::vector<uint8_t> data = machine_windows(frame / 2, windows, in.u8());
    device.send(Kind::samples, Message().number(5).number(offset).number(0).bytes(data).finish());
    offset += static_cast<uint32_t>(data.size());
  }
  if (label < 3) device.send(Kind::stream_end, Message().number(5).finish());
  device.send(Kind::learn_end, {});
  device.background(in.u8() % 64);
}

void push(Device& device, Input& in) {
  Engine& e = device.engine();
  std::vector<uint8_t> adapter(e.adapter(), e.adapter() + e.adapter_bytes());
  if (adapter.empty()) return;
  for (uint32_t n = in.u8() % 4; n > 0; --n) adapter[in.u16() % adapter.size()] = in.u8();
  const auto size = static_cast<uint32_t>(adapter.size());
  device.send(Kind::push_begin, Message()
                                    .bytes(e.model().image_hash(), kHashBytes)
                                    .number(size)
                                    .number(crc32(adapter.data(), size))
                                    .number(1)
                                    .number(2)
                                    .finish());
  const uint32_t piece = kChunkBytes - in.u8();
  for (uint32_t at = 0; at < size; at += piece) {
    device.send(
        Kind::push,
        Message().number(at).bytes(adapter.data() + at, std::min(piece, size - at)).finish());
    if (in.u8() == 0xFF) fuzzed_request(device, in);
  }
  device.send(Kind::push_end, {});
}

// Any image, damaged or not; most need more RAM than there is.
void replace_model(Device& device, Input& in) {
  const Exact& chosen = images()[in.u8() % images().size()];
  std::vector<uint8_t> image(chosen.data(), chosen.data() + chosen.size());
  for (uint32_t n = in.u8() % 3; n > 0; --n) image[in.u16() % image.size()] = in.u8();
  const auto size = static_cast<uint32_t>(image.size());
  const uint32_t crc = crc32(image.data(), size);
  device.send(Kind::model_begin,
              Message().bytes(image.data() + 16, kHashBytes).number(size).number(crc).finish());
  for (uint32_t at = 0, piece = 16u * (24 - in.u8() % 24u); at < size; at += piece) {
    device.send(Kind::model_piece,
                Message().number(at).bytes(image.data() + at, std::min(piece, size - at)).finish());
    if (in.u8() == 0xFF) fuzzed_request(device, in);
  }
  uint8_t digest[kHashBytes];
  Blake2s hash(sizeof digest);
  hash.add(image.data(), size);
  hash.finish(digest);
  device.send(Kind::model_end, Message().bytes(digest, sizeof digest).finish());
  if (in.u8() % 4 == 0) device.send(Kind::model_rollback, {});
}

void train(Device& device, Input& in) {
  Message begin;
  put_config(begin, read_train_config(in));
  device.send(Kind::train_begin, begin.finish());
  Engine& e = device.engine();
  for (uint32_t step = 0; step < 3; ++step) {
    const std::vector<uint8_t> none;
    std::vector<uint8_t> input = in.bytes(e.input_bytes()), target = in.bytes(e.output_bytes());
    input.resize(e.input_bytes());
    target.resize(e.output_bytes());
    device.send(Kind::train_step, Message()
                                      .number(step)
                                      .number(in.u8() % 4)
                                      .bytes(input.size() < 200 ? input : none)
                                      .bytes(target.size() < 200 ? target : none)
                                      .finish());
  }
}

void noise(Device& device, Input& in) {
  const uint8_t how = in.u8();
  std::vector<uint8_t> raw = in.bytes(in.u8() * (how % 4 == 0 ? 4u : 1u));
  if (how >= 128) return device.receive(raw);
  if (how >= 96) return device.replay(in.u8());
  const auto session = static_cast<uint8_t>(device.session_id());
  std::vector<uint8_t> frame = {kProtocolVersion, in.u8(), session, 0, in.u8(), in.u8()};
  frame.insert(frame.end(), raw.begin(), raw.end());
  device.send_frame(how % 2 == 0 ? frame : raw);
}

void sense(Device& device, Input& in) {
  const uint8_t how = in.u8();
  if (how >= 224) return device.fail_sensor(how);
  device.sense(in.u8(), how, how % 4 == 0);
  if (how % 8 == 1) device.send(Kind::raw, Message().number(in.u8()).finish());
}

void act(Device& device, Input& in, uint8_t what) {
  switch (what) {
    case 0:
      return noise(device, in);
    case 1:
      return device.background(in.u8() % 128);
    case 2:
      return device.power_cycle();
    case 3:
      return learn(device, in);
    case 4:
      return push(device, in);
    case 5:
      return train(device, in);
    case 6:
      return replace_model(device, in);
    case 7:
      return sense(device, in);
    case 8:
      return device.wait(in.u8() * 512u);
    default:
      return fuzzed_request(device, in);
  }
}

// One who has the key: up to three acts in a session of its own.
void act_with_key(Device& device, Input& in) {
  const uint8_t how = in.u8();
  if (how % 4 == 0 || !device.has_session_key()) {
    std::vector<uint8_t> nonce = in.bytes(kChallengeBytes);
    nonce.resize(kChallengeBytes);
    device.rightly([&] { device.authenticate(Message().bytes(nonce).finish(), nonce); });
  }
  const uint8_t flaw = how >= 224 ? how : uint8_t{0};
  device.with_tags(flaw, [&] {
    for (int i = how / 4 % 4; i > 0 && !in.empty(); --i) act(device, in, in.u8() % 16);
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  const Exact& image = images()[in.u8() % images().size()];
  const uint8_t nature = in.u8();
  const auto lock = static_cast<Lock>(nature % 4 % 3);
  const int tries = nature < 192 ? 0 : (nature - 192) / 8 * 16;
  const auto device = std::make_unique<Device>(image, in.u8(), lock, tries, nature % 8 < 4);
  for (int i = 0; i < 10 && !in.empty(); ++i) {
    const uint8_t what = in.u8() % 16;
    if (what >= 9 && what < 12 && device->locked()) {
      act_with_key(*device, in);
    } else {
      act(*device, in, what);
    }
    device->require_untouched();
  }
  return 0;
}
