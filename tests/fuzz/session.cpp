// Fuzzes frames and session over the real engine: requests with a right CRC and fuzzed fields,
// noise, background training and restarts on the same flash, in any order. Some devices are locked:
// nothing that comes without their key may change them.
#include "runtime/session.h"

#include "device.h"
#include "runtime/blake2s.h"

using namespace kilotune;
using namespace kilotune::fuzz;

namespace {

// One CBOR array of the fields given; of indefinite length, as the host's may be.
class Message {
 public:
  Message& number(uint32_t v) { return head(0x00, v); }
  Message& integer(int32_t v) {
    return v >= 0 ? head(0x00, static_cast<uint32_t>(v))
                  : head(0x20, static_cast<uint32_t>(-1 - v));
  }
  Message& bytes(const uint8_t* data, size_t n) {
    head(0x40, static_cast<uint32_t>(n));
    out_.insert(out_.end(), data, data + n);
    return *this;
  }
  Message& bytes(const std::vector<uint8_t>& v) { return bytes(v.data(), v.size()); }
  [[nodiscard]] std::vector<uint8_t> finish() {
    out_.push_back(0xFF);
    return out_;
  }

 private:
  Message& head(uint8_t type, uint32_t v) {
    if (v < 24) {
      out_.push_back(static_cast<uint8_t>(type | v));
    } else {
      const int n = v < 0x100 ? 1 : (v < 0x10000 ? 2 : 4);
      out_.push_back(static_cast<uint8_t>(type | (n == 1 ? 24 : (n == 2 ? 25 : 26))));
      for (int i = n; i-- > 0;) out_.push_back(static_cast<uint8_t>(v >> (8 * i)));
    }
    return *this;
  }
  std::vector<uint8_t> out_{0x9F};
};

// The fields of each request: u number, i integer, b bytes, n 16 of them, k 32, h the image's hash.
struct Request {
  Kind kind;
  const char* fields;
};
constexpr Request kRequests[] = {
    {Kind::hello, ""},
    {Kind::model, ""},
    {Kind::status, ""},
    {Kind::reset, ""},
    {Kind::learn_begin, "uiuiuuuuuuuuuuuuuu"},
    {Kind::learn_end, ""},
    {Kind::learn_cancel, ""},
    {Kind::stream_begin, "uuruu"},
    {Kind::samples, "uuub"},
    {Kind::stream_end, "u"},
    {Kind::results, "u"},
    {Kind::input_write, "ub"},
    {Kind::infer, "b"},
    {Kind::output_read, "u"},
    {Kind::train_begin, "uiuiuuu"},
    {Kind::train_step, "uubb"},
    {Kind::bench, "uuu"},
    {Kind::commit, ""},
    {Kind::commit_candidate, ""},
    {Kind::mark_stable, ""},
    {Kind::rollback, ""},
    {Kind::restore, ""},
    {Kind::pull, "uu"},
    {Kind::push_begin, "huuuu"},
    {Kind::push, "ub"},
    {Kind::push_end, ""},
    {Kind::challenge, "n"},
    {Kind::key, "uk"},
    {Kind::adapter_tag, ""},
    {Kind::model_begin, "huu"},
    {Kind::model_piece, "ub"},
    {Kind::model_end, "k"},
    {Kind::model_rollback, ""},
    {Kind::sensor_test, ""},
    {Kind::raw, "u"},
};

// A partition for three of the largest image that there is.
uint32_t model_sectors() {
  uint32_t largest = 0;
  for (const Exact& image : images()) largest = std::max(largest, image.size());
  return 3 * ((record_bytes(largest) + 1023) / 1024);
}

class Device {
 public:
  Device(const Exact& image, uint8_t flash_choice, Lock lock)
      : image_(image),
        ram_(Engine::ram_bytes(image.data(), image.size())),
        flash_(flash_for(load_u32(image.data() + 120), flash_choice)) {
    board_.context = this;
    board_.id = "fuzz";
    board_.receive_bytes = 4096;
    board_.reset = [](void* self) { static_cast<Device*>(self)->reset_ = true; };
    board_.millis = [](void*) -> uint32_t { return 1234; };
    board_.keys = &keys_;
    present_ = this;
    static constexpr ModelCalls kCalls = {
        nullptr,
        [](const Bytes& found, uint32_t& detail) { return present_->check(found, detail); },
        [] { return present_->open(); }};
    calls_ = kCalls;
    calls_.store = &models_;
    board_.models = &calls_;
    std::memcpy(model_flash_.bytes.data(), image.data(), image.size());
    model_content_ = model_flash_.bytes;
    if (lock != Lock::none) {
      const uint8_t key[KeyStore::kKeyBytes] = {1, 2, 3};
      REQUIRE(keys_.mount(&key_flash_.port) == Status::ok);
      REQUIRE(keys_.set(lock, key) == Status::ok);
    }
    boot();
    locked_ = lock;
    adapter_.assign(engine_.adapter(), engine_.adapter() + engine_.adapter_bytes());
    checkpoints_ = flash_->bytes;
  }

  // What a locked device keeps whatever strangers send.
  void require_untouched() const {
    if (locked_ == Lock::none) return;
    REQUIRE(keys_.lock() == locked_ && keys_.key()[0] == 1 && keys_.key()[2] == 3);
    REQUIRE(restarts_ == 0);
    REQUIRE(flash_->bytes == checkpoints_);
    REQUIRE(model_flash_.bytes == model_content_);
    REQUIRE(std::equal(adapter_.begin(), adapter_.end(), engine_.adapter()));
    REQUIRE(engine_.phase() == Phase::idle && engine_.train_steps() == 0);
  }

  void boot() {
    reset_ = false;
    REQUIRE(keys_.mount(&key_flash_.port) == Status::ok);
    REQUIRE(open() == Status::ok);
    session_ = std::make_unique<Session>(engine_, link_, board_);
    send(Kind::hello, {});
  }

  void receive(const std::vector<uint8_t>& bytes) {
    const Exact exact(bytes.data(), bytes.size());
    session_->receive(exact.data(), exact.size());
    if (!reset_) return;
    ++restarts_;
    boot();
  }

  void send(Kind kind, const std::vector<uint8_t>& message, int step = 1, uint16_t session = 77) {
    sequence_ = static_cast<uint16_t>(sequence_ + step);
    std::vector<uint8_t> frame = {kProtocolVersion, static_cast<uint8_t>(kind), 0, 0, 0, 0};
    store_u16(frame.data() + 2, session);
    store_u16(frame.data() + 4, sequence_);
    frame.insert(frame.end(), message.begin(), message.end());
    send_frame(frame);
  }

  void send_frame(std::vector<uint8_t> frame) {
    const size_t body = frame.size();
    frame.resize(body + kFrameCrcBytes);
    std::vector<uint8_t> line;
    line.reserve(frame_worst_case_bytes(static_cast<uint32_t>(frame.size())));
    frame_write(frame.data(), static_cast<uint32_t>(body), {&line, append});
    receive(line);
  }

  void background(uint32_t steps) {
    while (steps-- > 0 && session_->background()) {
    }
  }

  Engine& engine() { return engine_; }
  FuzzFlash& flash() { return *flash_; }

 private:
  [[nodiscard]] Status check(const Bytes& image, uint32_t& detail) const {
    Engine::Needs needs;
    const Status status = Engine::measure(image.data, image.size, needs);
    if (status != Status::ok) return status;
    detail = needs.ram_bytes;
    return needs.ram_bytes > ram_.size() ? Status::no_memory : Status::ok;
  }
  // The first image in an allocation of its size, those that came over the line where they lie.
  Status open() {
    Bytes found = models_.find();
    if (found.data == model_flash_.bytes.data()) found = {image_.data(), image_.size()};
    engine_.~Engine();
    new (&engine_) Engine;
    board_.opened = engine_.open(found.data, found.size, ram_.data(), ram_.size(), &flash_->port);
    return board_.opened;
  }
  static void append(void* out, const uint8_t* data, uint32_t n) {
    auto& bytes = *static_cast<std::vector<uint8_t>*>(out);
    bytes.insert(bytes.end(), data, data + n);
  }
  // Every byte that leaves the device belongs to an intact frame with a header.
  static void answer(void* context, const uint8_t* data, uint32_t n) {
    auto& self = *static_cast<Device*>(context);
    for (uint32_t i = 0; i < n; ++i) {
      if (!self.host_.push(data[i])) continue;
      REQUIRE(self.host_.body_bytes() >= kWireHeaderBytes);
      REQUIRE((self.host_.body()[1] & kAnswer) != 0);
    }
    const FrameCounters& c = self.host_.counters();
    REQUIRE(c.bad_crc == 0 && c.bad_cobs == 0 && c.too_long == 0);
  }

  const Exact& image_;
  Exact ram_;
  std::unique_ptr<FuzzFlash> flash_;
  Engine engine_;
  std::unique_ptr<Session> session_;
  Link link_{this, answer};
  Board board_;
  FuzzFlash key_flash_{1024, 2, 4};
  FuzzFlash model_flash_{1024, model_sectors(), 4};
  ModelStore models_{&model_flash_.port};
  ModelCalls calls_{};
  static inline Device* present_ = nullptr;  // of the calls, which have no context
  KeyStore keys_;
  Lock locked_ = Lock::none;
  std::vector<uint8_t> adapter_, checkpoints_, model_content_;  // at the start
  uint32_t restarts_ = 0;                                       // that a message asked for
  bool reset_ = false;
  uint16_t sequence_ = 0;
  uint8_t host_buffer_[kMaxFrame];
  FrameDecoder host_{host_buffer_, sizeof host_buffer_};
};

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

void fuzzed_request(Device& device, Input& in) {
  const Request& r = kRequests[in.u8() % std::size(kRequests)];
  Message m;
  for (const char* f = r.fields; *f != 0; ++f) {
    const uint8_t how = in.u8();
    if (*f == 'h' && how < 240) {
      m.bytes(device.engine().model().image_hash(), kHashBytes);
    } else if ((*f == 'n' || *f == 'k') && how < 240) {
      std::vector<uint8_t> bytes = in.bytes(*f == 'n' ? 16 : 32);
      bytes.resize(*f == 'n' ? 16 : 32);
      m.bytes(bytes);
    } else if (*f == 'b' || *f == 'h' || *f == 'n' || *f == 'k') {
      m.bytes(in.bytes(how < 16 ? known(device, in) % 512 : how));
    } else if (*f == 'r' && how < 240) {
      m.number(device.engine().features().rate_mhz);
    } else if (*f == 'i') {
      m.integer(static_cast<int8_t>(how) - 20);
    } else {
      m.number(how < 64 ? how % 4u : (how < 128 ? known(device, in) : in.number()));
    }
  }
  std::vector<uint8_t> message = m.finish();
  if (*r.fields == 0) message.clear();
  const uint8_t flaw = in.u8();
  if (flaw >= 0xF8) message.resize(flaw == 0xFF ? message.size() / 2 : message.size() + 1);
  const uint8_t place = in.u8();
  device.send(r.kind, message, place < 240 ? 1 : place - 248,
              place == 0 ? uint16_t{9} : uint16_t{77});
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
  begin.number(static_cast<uint32_t>(c.guard)).number(c.recalibrate);
  device.send(Kind::learn_begin, begin.finish());
  const uint8_t kind = in.u8() % 4 == 0 ? 0 : 1;
  const uint8_t label = in.u8() % 3;
  device.send(
      Kind::stream_begin,
      Message().number(5).number(kind).number(f.rate_mhz).number(f.axes).number(label).finish());
  const uint32_t frame = device.engine().frame_bytes();
  uint32_t offset = 0;
  for (uint32_t n = in.u8() % 4; n > 0 && frame > 0; --n) {
    const uint32_t windows = std::min(8u, kChunkBytes / frame);
    std::vector<uint8_t> data = machine_windows(frame / 2, windows, in.u8());
    device.send(Kind::samples, Message().number(5).number(offset).number(0).bytes(data).finish());
    offset += static_cast<uint32_t>(data.size());
  }
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
  const uint32_t piece = 100 + in.u8();
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
  for (uint32_t at = 0, piece = 16u * (1 + in.u8() % 20); at < size; at += piece) {
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
  std::vector<uint8_t> frame = {kProtocolVersion, in.u8(), 77, 0, in.u8(), in.u8()};
  frame.insert(frame.end(), raw.begin(), raw.end());
  device.send_frame(how % 2 == 0 ? frame : raw);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  const size_t start = in.u8();
  const Exact& image = images()[start % images().size()];
  const auto lock = static_cast<Lock>(start / images().size() % 3);
  const auto device = std::make_unique<Device>(image, in.u8(), lock);
  for (int i = 0; i < 10 && !in.empty(); ++i) {
    switch (in.u8() % 16) {
      case 0:
        noise(*device, in);
        break;
      case 1:
        device->background(in.u8() % 128);
        break;
      case 2:
        device->boot();
        break;
      case 3:
        learn(*device, in);
        break;
      case 4:
        push(*device, in);
        break;
      case 5:
        train(*device, in);
        break;
      case 6:
        replace_model(*device, in);
        break;
      default:
        fuzzed_request(*device, in);
    }
    device->require_untouched();
  }
  return 0;
}
