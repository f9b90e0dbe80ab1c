// Cuts the power at every program and erase while models are replaced. After each cut the device
// starts with the model before or the next one, with the same one at every later start, and takes
// another one then; what runs stays where it lies meanwhile.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "kernel/model.h"
#include "nor_flash.h"
#include "runtime/storage/model_store.h"

using namespace kilotune;
using kilotune::testing::Geometry;
using kilotune::testing::NorFlash;
using kilotune::testing::PowerCut;
using kilotune::testing::Tear;

namespace {

using Image = std::vector<uint8_t>;

// Small sectors, so that models take several; the STM32F407's five, of which each holds several
// models; words of 16 bytes.
constexpr Geometry kGeometries[] = {{256, 9, 4}, {2048, 5, 4}, {512, 7, 16}};
constexpr Tear kTears[] = {Tear::nothing, Tear::one_bit,   Tear::marginal,  Tear::mixture,
                           Tear::half,    Tear::scrambled, Tear::everything};

Image make_image(uint32_t seed, uint32_t bytes) {
  Image p(bytes);
  std::mt19937 random(seed);
  for (uint8_t& b : p) b = static_cast<uint8_t>(random());
  store_u32(p.data(), kImageMagic);
  store_u32(p.data() + 8, bytes);
  store_u32(p.data() + 12, crc32(p.data() + 16, bytes - 16));
  return p;
}

// Not the bare macro: that would swallow the exception of a power cut.
void require(Status got, Status wanted) { REQUIRE(got == wanted); }

void send(ModelStore& store, const Image& image, uint32_t bytes) {
  const auto n = static_cast<uint32_t>(image.size());
  require(store.begin(image.data() + 16, n, crc32(image.data(), n)), Status::ok);
  for (uint32_t at = store.staged(); at < bytes; at += 208)
    require(store.append(at, image.data() + at, std::min(208u, n - at)), Status::ok);
}

void replace(ModelStore& store, const Image& image) {
  send(store, image, static_cast<uint32_t>(image.size()));
  Bytes staged;
  require(store.staged_image(staged), Status::ok);
  REQUIRE(std::equal(image.begin(), image.end(), staged.data, staged.data + staged.size));
  require(store.commit(), Status::ok);
}

// A device and what it runs since its start.
class Device {
 public:
  Device(const Geometry& g, const std::vector<uint8_t>& content) : flash(g), port(flash.port()) {
    std::copy(content.begin(), content.end(), flash.bytes().begin());
  }

  // The image that counts; empty: there is none.
  Image start() {
    store = ModelStore(&port);
    const Bytes found = store.find();
    running_ = static_cast<uint32_t>(found.data - flash.bytes().data());
    // At the start of the partition the image's own length says where it ends.
    const uint32_t size = load_u32(found.data + 8);
    if (size < kHeaderBytes || size > found.size) return image_ = {};
    image_.assign(found.data, found.data + size);
    const bool whole = crc32(image_.data() + 16, size - 16) == load_u32(image_.data() + 12);
    return whole ? image_ : image_ = {};
  }
  // But for the first flash word of what was flashed: it is cleared, and read by `find` alone.
  [[nodiscard]] bool runs_on() const {
    return image_.empty() ||
           std::equal(image_.begin() + 16, image_.end(), flash.bytes().begin() + running_ + 16);
  }
  [[nodiscard]] Image former() {
    Bytes found;
    return store.former(found) == Status::ok ? Image(found.data, found.data + found.size) : Image{};
  }

  mutable NorFlash flash;
  Flash port;
  ModelStore store{nullptr};

 private:
  uint32_t running_ = 0;
  Image image_;
};

using Action = std::function<void(ModelStore&)>;

class Life {
 public:
  explicit Life(const Geometry& g) : geometry_(g), now_(g, std::vector<uint8_t>(g.bytes(), 0xFF)) {}

  // Does it, cut at each operation in every way.
  void act(const Action& action) {
    const std::vector<uint8_t> before = now_.flash.bytes();
    const Image old = now_.start();
    const uint64_t first = now_.flash.operations;
    action(now_.store);
    CHECK(now_.runs_on());
    const uint64_t operations = now_.flash.operations - first;
    const Image next = now_.start();
    for (uint64_t k = 0; k < operations; ++k) {
      for (const Tear tear : kTears) cut(before, action, k, tear, old, next);
    }
    CHECK_FALSE(now_.flash.misused);
  }

  // As `kilotune flash` does: from outside, over whatever is there.
  void flash(const Image& image) {
    std::vector<uint8_t>& bytes = now_.flash.bytes();
    const auto used = static_cast<uint32_t>(image.size());
    const uint32_t sector = geometry_.sector_bytes;
    std::fill_n(bytes.begin(), (used + sector - 1) / sector * sector, uint8_t{0xFF});
    std::copy(image.begin(), image.end(), bytes.begin());
    REQUIRE(now_.start() == image);
  }

  Device& now() { return now_; }
  [[nodiscard]] uint32_t cuts() const { return cuts_; }
  [[nodiscard]] uint32_t to_next() const { return to_next_; }

 private:
  void cut(const std::vector<uint8_t>& before, const Action& action, uint64_t k, Tear tear,
           const Image& old, const Image& next) {
    ++cuts_;
    Device device(geometry_, before);
    device.start();
    device.flash.cut_at(device.flash.operations + k, tear, cuts_);
    REQUIRE(is_cut([&] { action(device.store); }));
    REQUIRE(device.runs_on());
    // Every third time the power goes again in the start, where it writes.
    if (cuts_ % 3 == 0) {
      device.flash.cut_at(device.flash.operations + cuts_ % 50, tear, cuts_);
      static_cast<void>(is_cut([&] { device.start(); }));
    }
    device.flash.power_on();
    const Image found = device.start();
    REQUIRE((found == old || found == next));
    to_next_ += found == next ? 1 : 0;
    for (int i = 0; i < 3; ++i) REQUIRE(device.start() == found);
    go_on(device, found);
    REQUIRE_FALSE(device.flash.misused);
  }

  // It takes another model, keeps that over starts, and returns to the one before.
  void go_on(Device& device, const Image& found) {
    const Image another = make_image(cuts_, 200 + 4 * (cuts_ % 60));
    replace(device.store, another);
    REQUIRE(device.runs_on());
    for (int i = 0; i < 2; ++i) REQUIRE(device.start() == another);
    REQUIRE(device.former() == found);
    if (found.empty()) return;
    require(device.store.rollback(), Status::ok);
    REQUIRE(device.runs_on());
    for (int i = 0; i < 2; ++i) REQUIRE(device.start() == found);
  }

  template <typename Call>
  static bool is_cut(const Call& call) {
    try {
      call();
    } catch (const PowerCut&) {
      return true;
    }
    return false;
  }

  const Geometry& geometry_;
  Device now_;
  uint32_t cuts_ = 0, to_next_ = 0;
};

}  // namespace

TEST_CASE("A model that is replaced is the old one or the new one after a cut at any word") {
  uint32_t cuts = 0;
  for (const Geometry& g : kGeometries) {
    Life life(g);
    uint32_t seed = 0;
    const auto image = [&seed](uint32_t bytes) { return make_image(++seed + 1000, bytes); };
    const auto replaced = [&life](const Image& next) {
      life.act([&next](ModelStore& store) { replace(store, next); });
      CHECK(life.now().start() == next);
    };
    replaced(image(300));  // onto a partition without a model
    const Image first = image(604);
    life.flash(first);
    CHECK(life.now().former().empty());
    replaced(image(444));
    CHECK(life.now().former() == first);
    replaced(image(640));
    replaced(image(136));
    life.act([](ModelStore& store) { require(store.rollback(), Status::ok); });
    // One that does not arrive as a whole changes nothing; the next one does.
    const Image half = image(600), whole = image(500);
    life.act([&half](ModelStore& store) { send(store, half, 416); });
    life.act([&half, &whole](ModelStore& store) {
      send(store, half, 208);
      replace(store, whole);
    });
    life.flash(first);  // again: it counts, whatever was there
    life.act([&half](ModelStore& store) { send(store, half, 208); });
    CHECK(life.now().start() == first);
    replaced(whole);
    CHECK(life.now().former() == first);
    CHECK(life.to_next() > 0);
    cuts += life.cuts();
  }
  MESSAGE(cuts << " cuts");
}

TEST_CASE("A transfer goes on where it was, and only whole flash words are taken") {
  Device device(kGeometries[0], std::vector<uint8_t>(kGeometries[0].bytes(), 0xFF));
  const Image image = make_image(1, 404);
  device.start();
  ModelStore& store = device.store;
  CHECK(store.append(0, image.data(), 16) == Status::wrong_state);
  send(store, image, 208);
  const uint32_t crc = crc32(image.data(), 404);
  CHECK(store.begin(image.data() + 16, 404, crc) == Status::ok);
  CHECK(store.staged() == 208);
  CHECK(store.append(200, image.data() + 200, 24) == Status::ok);  // known in part
  CHECK(store.staged() == 224);
  CHECK(store.append(224, image.data() + 224, 20) == Status::bad_argument);
  CHECK(store.append(240, image.data() + 240, 16) == Status::out_of_order);
  CHECK(store.append(0xFFFFFFF0u, image.data(), 0x1A4) == Status::bad_argument);
  CHECK(store.append(0, image.data() + 1, 16) == Status::bad_argument);  // not what was taken
  Bytes staged;
  CHECK(store.staged_image(staged) == Status::truncated);
  CHECK(store.append(224, image.data() + 224, 180) == Status::ok);
  CHECK(store.staged_image(staged) == Status::ok);
  CHECK(store.begin(image.data() + 16, 404, crc + 1) == Status::ok);  // another one
  CHECK(store.staged() == 0);
  CHECK(device.start().empty());
}

TEST_CASE("Asking for the former model ends a transfer, and the next one is whole") {
  Device device(kGeometries[0], std::vector<uint8_t>(kGeometries[0].bytes(), 0xFF));
  const Image image = make_image(1, 404);
  device.start();
  ModelStore& store = device.store;
  send(store, image, 404);
  Bytes former;
  CHECK(store.former(former) == Status::no_former);
  CHECK(store.commit() == Status::wrong_state);
  replace(store, image);
  CHECK(device.start() == image);
}

TEST_CASE("What does not fit beside the model that runs is refused and changes nothing") {
  const Geometry g = kGeometries[0];
  Device device(g, std::vector<uint8_t>(g.bytes(), 0xFF));
  device.start();
  CHECK(device.store.capacity() == 3 * 256 - 112);
  const Image largest = make_image(1, device.store.capacity());
  const Image large = make_image(2, device.store.capacity() + 4);
  const Image small = make_image(3, 200);
  CHECK(device.store.begin(large.data() + 16, device.store.capacity() + 4, 0) == Status::no_room);
  for (int i = 0; i < 5; ++i) {
    replace(device.store, i % 2 == 0 ? largest : small);
    CHECK(device.start() == (i % 2 == 0 ? largest : small));
  }
  // One that was flashed, and that no third of the partition holds, stays.
  std::fill(device.flash.bytes().begin(), device.flash.bytes().end(), uint8_t{0xFF});
  std::copy(large.begin(), large.end(), device.flash.bytes().begin());
  CHECK(device.start() == large);
  const uint64_t operations = device.flash.operations;
  CHECK(device.store.begin(small.data() + 16, 200, crc32(small.data(), 200)) == Status::no_room);
  CHECK(device.store.rollback() == Status::no_room);
  CHECK(device.flash.operations == operations);
  CHECK(device.start() == large);

  // Two sectors or one: no model beside another.
  Device tiny({1024, 2, 4}, std::vector<uint8_t>(2048, 0xFF));
  std::copy(small.begin(), small.end(), tiny.flash.bytes().begin());
  CHECK(tiny.start() == small);
  CHECK(tiny.store.capacity() == 0);
  CHECK(tiny.store.begin(small.data() + 16, 200, crc32(small.data(), 200)) == Status::no_room);
  CHECK(tiny.store.rollback() == Status::unavailable);
  CHECK(tiny.flash.operations == 0);
}

TEST_CASE("A model in a worn sector goes to another one") {
  const Geometry g = kGeometries[0];
  for (uint32_t worn = 0; worn < 9; ++worn) {
    Device device(g, std::vector<uint8_t>(g.bytes(), 0xFF));
    device.flash.wear_out(worn);
    Image runs = device.start();
    for (uint32_t i = 0; i < 6; ++i) {
      const Image image = make_image(10 * worn + i, 500);
      const auto n = static_cast<uint32_t>(image.size());
      // What is worn shows while the payload is written: it is sent again then.
      Status status = Status::flash_failed;
      for (int attempt = 0; attempt < 4 && status == Status::flash_failed; ++attempt) {
        status = device.store.begin(image.data() + 16, n, crc32(image.data(), n));
        for (uint32_t at = 0; at < n && status == Status::ok; at += 208)
          status = device.store.append(at, image.data() + at, std::min(208u, n - at));
      }
      if (status == Status::ok) status = device.store.commit();
      if (status == Status::ok) runs = image;
      CHECK(device.start() == runs);
    }
    CHECK(runs.size() == 500);
  }
}
