// Binds the runtime: features of samples, and the device's session for the twin.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "native.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/operators.h"
#include "runtime/keys/blake2s.h"
#include "runtime/keys/key_store.h"
#include "runtime/link/session.h"
#include "runtime/signal/features.h"
#include "runtime/signal/window.h"

namespace nb = nanobind;

namespace kilotune::native {
namespace {

using Samples = nb::ndarray<const int16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// int16 counts (n, axes) to int16 Q10 features (windows, features): all complete windows.
nb::object features(nb::bytes image, uint32_t section, const Samples& samples) {
  const AlignedBytes bytes(image);
  FeatureConfig config;
  check(features_open(bytes.data(), bytes.size(), section, config));
  if (samples.shape(1) != config.axes) check(Status::wrong_axes);
  const size_t n = samples.shape(0);
  const size_t windows = n < config.window ? 0 : (n - config.window) / config.hop + 1;
  Array<int16_t> out(windows * config.features_total);
  {
    nb::gil_scoped_release release;
    std::vector<int16_t> ring(size_t{config.window} * config.axes);
    std::vector<uint32_t> scratch(feature_scratch_bytes(config) / 4 + 1);
    Window window;
    window.open(ring.data(), config.window, config.hop, config.axes);
    size_t w = 0;
    const uint8_t* frames = reinterpret_cast<const uint8_t*>(samples.data());
    for (size_t i = 0; i < n;) {
      const auto left = static_cast<uint32_t>(std::min<size_t>(n - i, config.window));
      bool complete = false;
      const uint32_t taken = window.take(frames + 2 * i * config.axes, left, complete);
      i += taken;
      if (!complete) continue;
      AxisRange ranges[kMaxAxes];
      for (uint32_t axis = 0; axis < config.axes; ++axis)
        ranges[axis] = range_of(window.ring() + axis, config.window, config.axes);
      features_compute(config, window.ring(), window.first(), ranges, scratch.data(),
                       out.data() + w++ * config.features_total);
    }
  }
  return out.numpy({windows, config.features_total});
}

// What a device that has learned nothing says of every window of int16 counts (n, axes): bits of
// `refusal`, (windows,). The engine itself judges, without the line in between.
nb::object refusals(nb::bytes image, const Samples& samples) {
  const AlignedBytes bytes(image);
  std::vector<uint64_t> ram(Engine::ram_bytes(bytes.data(), bytes.size()) / 8 + 1);
  Engine engine;
  check(engine.open(bytes.data(), bytes.size(), reinterpret_cast<uint8_t*>(ram.data()),
                    static_cast<uint32_t>(ram.size() * 8), nullptr));
  const FeatureConfig& config = engine.features();
  check(engine.stream_begin(StreamKind::samples, config.rate_mhz,
                            static_cast<uint8_t>(samples.shape(1)), 0));
  std::vector<uint8_t> found;
  Status status = Status::ok;
  {
    nb::gil_scoped_release release;
    const size_t n = samples.shape(0), axes = config.axes;
    // At most one window at a time: the ring keeps its result.
    for (size_t i = 0; i < n && status == Status::ok; i += config.hop) {
      const size_t frames = std::min<size_t>(config.hop, n - i);
      const auto* from = reinterpret_cast<const uint8_t*>(samples.data() + i * axes);
      const uint32_t before = engine.results_end();
      status = engine.stream_push(from, static_cast<uint32_t>(frames * axes * 2));
      WindowResult result;
      if (engine.results_end() != before && engine.result(before, result)) {
        found.push_back(result.refused);
      }
    }
  }
  check(status);
  Array<uint8_t> out(found.size());
  std::memcpy(out.data(), found.data(), found.size());
  return out.numpy({found.size()});
}

// A flash region in a Python bytearray, which outlives resets.
class Region {
 public:
  Region(nb::object owner, uint32_t sector_bytes) : owner_(std::move(owner)) {
    if (owner_.is_none()) return;
    if (!PyByteArray_Check(owner_.ptr())) throw nb::type_error("flash is a bytearray, or None");
    const auto size = static_cast<uint32_t>(PyByteArray_Size(owner_.ptr()));
    if (sector_bytes == 0 || size % sector_bytes != 0) {
      throw nb::value_error("the flash is not a whole number of sectors");
    }
    auto* base = reinterpret_cast<uint8_t*>(PyByteArray_AsString(owner_.ptr()));
    flash_ = {base, sector_bytes, size / sector_bytes, 4, this, erase, program};
  }
  Region(const Region&) = delete;
  [[nodiscard]] const Flash* port() const { return flash_.base == nullptr ? nullptr : &flash_; }

 private:
  static uint8_t* at(void* self, uint32_t off) {
    return const_cast<uint8_t*>(static_cast<Region*>(self)->flash_.base) + off;
  }
  static Status erase(void* self, uint32_t off) {
    std::memset(at(self, off), 0xFF, static_cast<Region*>(self)->flash_.sector_bytes);
    return Status::ok;
  }
  static Status program(void* self, uint32_t off, const uint8_t* data, uint32_t n) {
    uint8_t* to = at(self, off);
    for (uint32_t i = 0; i < n; ++i) to[i] = static_cast<uint8_t>(to[i] & data[i]);
    return Status::ok;
  }

  nb::object owner_;
  Flash flash_{};
};

// One device in this process: engine and session over flash in bytearrays.
class Device {
 public:
  Device(nb::bytes image, nb::object flash, uint32_t sector_bytes, std::string unique_id,
         nb::object keys, uint32_t key_sector_bytes)
      : image_(image),
        flash_(std::move(flash), sector_bytes),
        key_flash_(std::move(keys), key_sector_bytes),
        unique_id_(std::move(unique_id)) {
    ram_.resize(Engine::ram_bytes(image_.data(), image_.size()) / 8 + 1);
    link_ = {this, write};
    board_.context = this;
    board_.id = "twin";
    board_.unique_id = reinterpret_cast<const uint8_t*>(unique_id_.data());
    board_.unique_id_bytes = static_cast<uint8_t>(unique_id_.size() < 16 ? unique_id_.size() : 16);
    board_.receive_bytes = 1u << 20;
    board_.reset = [](void* self) { static_cast<Device*>(self)->reset_pending_ = true; };
    board_.millis = millis;
    boot();
  }
  Device(const Device&) = delete;

  // Request bytes in, answer bytes out. Background training goes on for at most `slice_ms`.
  nb::bytes exchange(nb::bytes request, uint32_t slice_ms) {
    answer_.clear();
    const auto* data = reinterpret_cast<const uint8_t*>(request.data());
    const auto size = static_cast<uint32_t>(request.size());
    {
      nb::gil_scoped_release release;
      const auto end = Clock::now() + std::chrono::milliseconds(slice_ms);
      session_->receive(data, size);
      while (!reset_pending_ && session_->background() && Clock::now() < end) {
      }
      if (reset_pending_) boot();
    }
    return nb::bytes(answer_.data(), answer_.size());
  }

  // From now on the device's clock stands still where it is told to.
  void set_clock(uint32_t now_ms) {
    clock_is_set_ = true;
    now_ms_ = now_ms;
  }

  [[nodiscard]] uint32_t ram_bytes() const {
    return Engine::ram_bytes(image_.data(), image_.size());
  }

 private:
  using Clock = std::chrono::steady_clock;

  void boot() {
    reset_pending_ = false;
    session_.reset();
    engine_ = std::make_unique<Engine>();
    board_.opened =
        engine_->open(image_.data(), image_.size(), reinterpret_cast<uint8_t*>(ram_.data()),
                      static_cast<uint32_t>(ram_.size() * 8), flash_.port());
    board_.keys = keys_.mount(key_flash_.port()) == Status::ok ? &keys_ : nullptr;
    session_ = std::make_unique<Session>(*engine_, link_, board_);
  }

  static void write(void* self, const uint8_t* data, uint32_t n) {
    auto& out = static_cast<Device*>(self)->answer_;
    out.insert(out.end(), data, data + n);
  }
  static uint32_t millis(void* context) {
    const auto* self = static_cast<Device*>(context);
    if (self->clock_is_set_) return self->now_ms_;
    using std::chrono::milliseconds;
    const auto now = std::chrono::duration_cast<milliseconds>(Clock::now().time_since_epoch());
    return static_cast<uint32_t>(now.count());
  }

  AlignedBytes image_;
  Region flash_, key_flash_;
  std::string unique_id_;
  KeyStore keys_;
  Link link_{};
  Board board_{};
  std::vector<uint64_t> ram_;
  std::vector<uint8_t> answer_;
  bool reset_pending_ = false;
  bool clock_is_set_ = false;
  uint32_t now_ms_ = 0;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Session> session_;
};

// What a device says of an image that trains, and the kernel of one for inference.
int image_status(nb::bytes image) {
  const AlignedBytes bytes(image);
  Model model;
  Status status = model.open(bytes.data(), bytes.size(), operator_table());
  Engine::Needs needs;
  if (status == Status::ok && model.trainable())
    status = Engine::measure(bytes.data(), bytes.size(), needs);
  return static_cast<int>(status);
}

// Keyed BLAKE2s over `pieces` one after another, as the device computes it.
nb::bytes blake2s(nb::list pieces, nb::bytes key, uint32_t digest_bytes) {
  if (digest_bytes < 1 || digest_bytes > Blake2s::kMaxDigestBytes ||
      key.size() > Blake2s::kMaxKeyBytes) {
    throw nb::value_error("a digest of 1 to 32 bytes, a key of 0 to 32");
  }
  Blake2s hash(digest_bytes, reinterpret_cast<const uint8_t*>(key.data()),
               static_cast<uint32_t>(key.size()));
  for (const nb::handle piece : pieces) {
    const auto bytes = nb::cast<nb::bytes>(piece);
    hash.add(bytes.data(), static_cast<uint32_t>(bytes.size()));
  }
  uint8_t digest[Blake2s::kMaxDigestBytes];
  hash.finish(digest);
  return nb::bytes(digest, digest_bytes);
}

}  // namespace

void bind_runtime(nb::module_& m) {
  m.def("features", &features, nb::arg("image"), nb::arg("section"), nb::arg("samples"),
        "int16 counts (n, axes) to int16 Q10 log2 features (windows, features)");
  m.def("refusals", &refusals, nb::arg("image"), nb::arg("samples"),
        "int16 counts (n, axes) to uint8 (windows,): what of each window its sensor spoiled, bits");
  m.def("image_status", &image_status, nb::arg("image"),
        "What a device would say of the image when it opens it: a status code");
  m.def("blake2s", &blake2s, nb::arg("pieces"), nb::arg("key"), nb::arg("digest_bytes"),
        "Keyed BLAKE2s of the pieces, one after another");
  nb::class_<Device>(m, "Session")
      .def(nb::init<nb::bytes, nb::object, uint32_t, std::string, nb::object, uint32_t>(),
           nb::arg("image"), nb::arg("flash") = nb::none(), nb::arg("sector_bytes") = 4096,
           nb::arg("unique_id") = "twin", nb::arg("keys") = nb::none(),
           nb::arg("key_sector_bytes") = 4096)
      .def("exchange", &Device::exchange, nb::arg("request"), nb::arg("slice_ms") = 50,
           "Request bytes to answer bytes, as over a serial line")
      .def("set_clock", &Device::set_clock, nb::arg("now_ms"),
           "The device's clock, which stands still from then on until it is set again")
      .def_prop_ro("ram_bytes", &Device::ram_bytes, "RAM that the engine needs; 0: invalid image");
}

}  // namespace kilotune::native
