// The whole device of the session's target: engine, session, three flashes, a lock and a sensor.
#ifndef KILOTUNE_TESTS_FUZZ_SESSION_DEVICE_H_
#define KILOTUNE_TESTS_FUZZ_SESSION_DEVICE_H_

#include <new>

#include "device.h"
#include "runtime/link/session.h"

namespace kilotune::fuzz {

// A partition for three of the largest image that there is.
inline uint32_t model_sectors() {
  uint32_t largest = 0;
  for (const Exact& image : images()) largest = std::max(largest, image.size());
  return 3 * ((record_bytes(largest) + 1023) / 1024);
}

class Device {
 public:
  // `tries`: wrong ones with the key that were made before.
  Device(const Exact& image, uint8_t flash_choice, Lock lock, int tries, bool senses)
      : image_(image),
        ram_(Engine::ram_bytes(image.data(), image.size())),
        flash_(flash_for(load_u32(image.data() + 120), flash_choice)) {
    present_ = this;
    board_.context = this;
    board_.id = "fuzz";
    board_.receive_bytes = 4096;
    board_.reset = [](void* self) { static_cast<Device*>(self)->reset_ = true; };
    board_.millis = [](void* self) { return static_cast<Device*>(self)->now_ms_; };
    board_.keys = &keys_;
    calls_ = {&models_,
              [](const Bytes& found, uint32_t& detail) { return present_->check(found, detail); },
              [] { return present_->open(); }};
    board_.models = &calls_;
    static constexpr SensorCalls kSensor = {[] { return present_->sensor_; }, test_sensor};
    if (senses) board_.sensor = &kSensor;
    std::memcpy(model_flash_.bytes.data(), image.data(), image.size());
    if (lock != Lock::none) {
      const uint8_t key[KeyStore::kKeyBytes] = {1, 2, 3};
      REQUIRE(keys_.mount(&key_flash_.port) == Status::ok);
      REQUIRE(keys_.set(lock, key) == Status::ok);
      for (; tries > 0; --tries) REQUIRE(keys_.count_attempt() == Status::ok);
    }
    boot();
    remember();
  }

  // What a locked device keeps whatever strangers send.
  void require_untouched() const {
    if (trusted_ != 0 || known_.lock == Lock::none) return;
    REQUIRE(keys_.lock() == known_.lock);
    REQUIRE(std::equal(known_.key.begin(), known_.key.end(), keys_.key()));
    REQUIRE(restarts_ == 0);
    REQUIRE(flash_->bytes == known_.checkpoints);
    REQUIRE(model_flash_.bytes == known_.models);
    REQUIRE(engine_.phase() == known_.phase && engine_.train_steps() == known_.train_steps);
    REQUIRE(engine_.adapter_bytes() == known_.adapter.size());
    REQUIRE(std::equal(known_.adapter.begin(), known_.adapter.end(), engine_.adapter()));
  }

  // `doing` is the owner's, or the device's own.
  template <typename Doing>
  void rightly(Doing&& doing) {
    require_untouched();
    ++trusted_;
    doing();
    changed_ = true;
    if (--trusted_ == 0) remember();
  }

  void boot() {
    reset_ = false;
    tags_ = has_session_key_ = false;
    REQUIRE(keys_.mount(&key_flash_.port) == Status::ok);
    REQUIRE(open() == Status::ok);
    sensor_.sensing = false;
    session_ = std::make_unique<Session>(engine_, link_, board_);
    send(Kind::hello, {});
  }

  // The power goes and comes: what was not committed is gone.
  void power_cycle() {
    if (changed_) return rightly([this] { boot(); });
    boot();  // all as it was
  }

  void receive(const std::vector<uint8_t>& bytes) {
    const Exact exact(bytes.data(), bytes.size());
    session_->receive(exact.data(), exact.size());
    if (!reset_) return;
    ++restarts_;
    boot();
  }

  // `session` 0: the one that is open.
  void send(Kind kind, const std::vector<uint8_t>& message, int step = 1, uint16_t session = 0) {
    counter_ += static_cast<uint32_t>(step);
    std::vector<uint8_t> frame = {kProtocolVersion, static_cast<uint8_t>(kind), 0, 0, 0, 0};
    store_u16(frame.data() + 2, session == 0 ? session_id_ : session);
    store_u16(frame.data() + 4, static_cast<uint16_t>(counter_));
    frame.insert(frame.end(), message.begin(), message.end());
    if (!tags_) return send_frame(frame);
    const bool spoilt = flaw_ != 0;
    put_tag(frame);
    answer_.clear();
    send_frame(frame);
    if (answer_.empty()) return;  // lost in noise before it: who holds it back delays it
    REQUIRE(!spoilt || answer_[1] == kErrorKind);
    recorded_.push_back(frame);
  }

  // What someone who listened sends once more.
  void replay(uint8_t which) {
    if (!recorded_.empty()) send_frame(recorded_.rbegin()[which % recorded_.size()]);
  }

  void send_frame(std::vector<uint8_t> frame) {
    const size_t body = frame.size();
    frame.resize(body + kFrameCrcBytes);
    std::vector<uint8_t> line;
    line.reserve(frame_worst_case_bytes(static_cast<uint32_t>(frame.size())));
    frame_write(frame.data(), static_cast<uint32_t>(body), {&line, append});
    receive(line);
  }

  // A new session of who has the key, agreed on with the `nonce` of 16 bytes.
  void authenticate(const std::vector<uint8_t>& message, const std::vector<uint8_t>& nonce) {
    tags_ = has_session_key_ = false;
    ++session_id_;
    send(Kind::hello, {});
    send(Kind::challenge, message);
    constexpr auto kExpected =
        static_cast<uint8_t>(kAnswer | static_cast<uint8_t>(Kind::challenge));
    if (answer_.size() < kWireHeaderBytes + 2 || answer_[1] != kExpected) return;
    // One byte string in an array, whose end may follow it.
    const auto found = std::find(answer_.begin() + kWireHeaderBytes, answer_.end(), uint8_t{0x50});
    REQUIRE(keys_.key() != nullptr && answer_.end() - found > int{kChallengeBytes});
    Blake2s agreed(sizeof session_key_, keys_.key(), KeyStore::kKeyBytes);
    agreed.add_byte(2);
    agreed.add(&found[1], kChallengeBytes);
    agreed.add(nonce.data(), kChallengeBytes);
    agreed.add_byte(0);  // the length of the unique id
    agreed.finish(session_key_);
    counter_ = static_cast<uint16_t>(counter_);
    has_session_key_ = true;
  }
  [[nodiscard]] bool has_session_key() const { return has_session_key_; }

  // Of who has the key: what `doing` sends has tags, the first of them spoilt by a `flaw` but 0.
  template <typename Doing>
  void with_tags(uint8_t flaw, Doing&& doing) {
    rightly([&] {
      tags_ = has_session_key_;
      flaw_ = flaw;
      doing();
      tags_ = false;
    });
  }

  void background(uint32_t steps) {
    rightly([&] {
      while (steps-- > 0 && session_->background()) {
      }
    });
  }

  // The application feeds the engine, where no host has it, and learns when `learn` says so.
  void sense(uint32_t frames, uint32_t seed, bool learn) {
    if (board_.sensor == nullptr || !engine_.is_open()) return;
    rightly([&] {
      const FeatureConfig& f = engine_.features();
      if (session_->occupied() || f.axes == 0) return;
      if (learn && engine_.alone_windows() != 0 && session_->learn_alone() != Status::ok) return;
      session_->release();
      sensor_.sensing =
          engine_.stream_begin(StreamKind::samples, f.rate_mhz, f.axes, 0) == Status::ok;
      if (!sensor_.sensing) return;
      const std::vector<uint8_t> samples = machine_windows(f.axes, frames, seed);
      (void)engine_.stream_push(samples.data(), static_cast<uint32_t>(samples.size()));
      session_->note_change();
      if (!session_->alone()) return;
      if (engine_.phase() == Phase::detect) session_->alone_done();
      if (seed % 2 == 0 && engine_.phase() == Phase::learn) (void)engine_.learn_end();
    });
  }
  void fail_sensor(uint8_t how) {
    sensor_.state = how % 2 == 0 ? Status::ok : Status::wrong_rate;
    ++sensor_.overruns;
    sensor_.gap_at = how;
  }

  void wait(uint32_t ms) { now_ms_ += ms; }
  [[nodiscard]] bool locked() const { return keys_.lock() != Lock::none; }
  [[nodiscard]] uint16_t session_id() const { return session_id_; }
  Engine& engine() { return engine_; }

 private:
  // State of a device that only who has its key may change.
  struct Known {
    Lock lock = Lock::none;
    Phase phase{};
    uint32_t train_steps = 0;
    std::vector<uint8_t> key, adapter, checkpoints, models;
  };
  void remember() {
    restarts_ = 0;
    known_.lock = keys_.lock();
    if (known_.lock == Lock::none) return;
    known_.key.assign(keys_.key(), keys_.key() + KeyStore::kKeyBytes);
    known_.phase = engine_.phase();
    known_.train_steps = engine_.train_steps();
    known_.adapter.assign(engine_.adapter(), engine_.adapter() + engine_.adapter_bytes());
    known_.checkpoints = flash_->bytes;
    known_.models = model_flash_.bytes;
  }

  void put_tag(std::vector<uint8_t>& frame) {
    frame[1] |= kTagged;
    uint8_t tag[kTagBytes];
    Blake2s hash(kTagBytes, session_key_, sizeof session_key_);
    hash.add_byte(3);
    hash.add_u32(counter_);
    hash.add(frame.data(), static_cast<uint32_t>(frame.size()));
    hash.finish(tag);
    tag[0] = static_cast<uint8_t>(tag[0] ^ flaw_);
    flaw_ = 0;
    frame.insert(frame.end(), tag, tag + sizeof tag);
  }

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
  static Status test_sensor(SensorTest& out) {
    present_->sensor_.sensing = false;
    out.passed = true;
    out.moved_mg[1] = -70;
    return present_->sensor_.state;
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
      self.answer_.assign(self.host_.body(), self.host_.body() + self.host_.body_bytes());
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
  FuzzFlash key_flash_{512, 2, 4};  // soon full
  FuzzFlash model_flash_{1024, model_sectors(), 4};
  ModelStore models_{&model_flash_.port};
  ModelCalls calls_{};
  static inline Device* present_ = nullptr;  // of the calls, which have no context
  KeyStore keys_;
  SensorState sensor_{SensorChip::lis2dw12, Status::ok, false, 0, 0, 0};
  uint32_t now_ms_ = 1234;
  Known known_;
  int trusted_ = 0;
  uint32_t restarts_ = 0;  // that a message asked for
  bool changed_ = false;   // by whom it may be
  bool reset_ = false;
  uint32_t counter_ = 0;
  uint16_t session_id_ = 77;
  bool has_session_key_ = false, tags_ = false;
  uint8_t flaw_ = 0;
  uint8_t session_key_[Blake2s::kMaxDigestBytes] = {};
  std::vector<std::vector<uint8_t>> recorded_;  // with a tag, and answered
  std::vector<uint8_t> answer_;                 // the last one
  uint8_t host_buffer_[kMaxFrame];
  FrameDecoder host_{host_buffer_, sizeof host_buffer_};
};

}  // namespace kilotune::fuzz

#endif  // KILOTUNE_TESTS_FUZZ_SESSION_DEVICE_H_
