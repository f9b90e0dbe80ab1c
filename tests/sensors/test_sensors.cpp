// Drivers against register-level models of their chips, which know nothing of the drivers.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "sensor_model.h"
#include "sensors/sensor.h"
#include "sensors/spi.h"

namespace kilotune {
namespace {

using board::MicroG;
using board::SensorModel;

// A bus with one chip on it, whose time passes when the driver sleeps or the test says so.
class Bench {
 public:
  explicit Bench(const char* chip, bool spi = false) : model(board::make_sensor_model(chip)) {
    bus.context = this;
    bus.spi = spi;
    bus.read = [](void* self, uint8_t address, uint8_t reg, uint8_t* out, uint32_t n) {
      return static_cast<Bench*>(self)->read(address, reg, out, n);
    };
    bus.write = [](void* self, uint8_t address, uint8_t reg, uint8_t value) {
      auto& bench = *static_cast<Bench*>(self);
      if (!bench.reaches(address)) return false;
      if (bench.bus.spi) return spi_write(bench.wire, reg, value);
      bench.model->write(reg, value);
      return true;
    };
    bus.sleep_ms = [](void* self, uint32_t ms) { static_cast<Bench*>(self)->pass_us(ms * 1000); };
    wire.context = this;
    wire.select = [](void* self, bool on) { static_cast<Bench*>(self)->model->spi_select(on); };
    wire.exchange = [](void* self, uint8_t* bytes, uint32_t n) {
      auto& bench = *static_cast<Bench*>(self);
      for (uint32_t i = 0; i < n; ++i) {
        if (bench.bytes_until_broken == 0) return false;
        --bench.bytes_until_broken;
        bytes[i] = bench.model->spi_exchange(bytes[i]);
      }
      return true;
    };
  }

  void pass_us(uint64_t us) {
    const uint64_t rate = model->rate_mhz();
    if (rate == 0) return;
    phase_ += us * rate;  // in 1e-9 of a sample
    for (; phase_ >= 1000000000u; phase_ -= 1000000000u) {
      model->measure(acceleration(measured++));
    }
  }
  void pass_frames(uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) model->measure(acceleration(measured++));
  }
  // Different in every frame and axis, within 1.5 g.
  [[nodiscard]] MicroG acceleration(uint32_t i) const {
    const auto k = static_cast<int32_t>(i);
    return still ? MicroG{10000, -20000, 1000000}
                 : MicroG{k * 7813 % 1400000, -(k * 11719 % 1300000), 1000000 - k * 3907 % 600000};
  }

  std::unique_ptr<SensorModel> model;
  SensorBus bus;
  SpiWire wire;
  uint32_t bytes_until_broken = UINT32_MAX;
  uint32_t measured = 0;
  bool broken = false, still = false;
  std::vector<uint8_t> addresses;  // asked for

 private:
  bool reaches(uint8_t address) {
    addresses.push_back(address);
    return !broken && (bus.spi || model->answers(address));
  }
  bool read(uint8_t address, uint8_t reg, uint8_t* out, uint32_t n) {
    if (!reaches(address)) return false;
    if (bus.spi) return spi_read(wire, reg, out, n);
    model->read(reg, out, n);
    return true;
  }

  uint64_t phase_ = 0;
};

struct Chip {
  const char* name;
  SensorChip chip;
  uint32_t fifo;
  int32_t digit_ug_at_16g;
  std::vector<uint32_t> rates_mhz;
};
const Chip kChips[] = {
    {"lis2dw12",
     SensorChip::lis2dw12,
     32,
     1953,
     {12500, 25000, 50000, 100000, 200000, 400000, 800000, 1600000}},
    {"adxl345",
     SensorChip::adxl345,
     32,
     3907,
     {12500, 25000, 50000, 100000, 200000, 400000, 800000}},
    {"lsm6dso",
     SensorChip::lsm6dso,
     512,
     489,
     {12500, 26000, 52000, 104000, 208000, 416000, 833000, 1667000, 3333000, 6667000}},
};

// Reads until the FIFO is empty.
std::vector<std::array<int16_t, 3>> drain(Sensor& sensor, uint32_t& losses) {
  std::vector<std::array<int16_t, 3>> all;
  for (;;) {
    int16_t frames[8][kSensorAxes];
    uint32_t n = 0;
    bool lost = false;
    REQUIRE(sensor.read(frames, 8, n, lost) == Status::ok);
    losses += lost;
    if (n == 0) return all;
    for (uint32_t i = 0; i < n; ++i) all.push_back({frames[i][0], frames[i][1], frames[i][2]});
  }
}

TEST_CASE("every rate and range of a chip is set, and samples come out at full scale / 32768") {
  for (const Chip& chip : kChips) {
    for (const uint32_t rate : chip.rates_mhz) {
      for (uint32_t range_g = 2; range_g <= 16; range_g *= 2) {
        CAPTURE(chip.name);
        CAPTURE(rate);
        CAPTURE(range_g);
        Bench bench(chip.name);
        Sensor sensor;
        REQUIRE(sensor.open(bench.bus, rate, range_g * 1000000) == Status::ok);
        CHECK(sensor.chip() == chip.chip);
        CHECK(bench.model->rate_mhz() == 0);
        REQUIRE(sensor.start() == Status::ok);
        CHECK(bench.model->rate_mhz() == doctest::Approx(rate).epsilon(0.005));
        bench.pass_frames(20);
        uint32_t losses = 0;
        const auto frames = drain(sensor, losses);
        REQUIRE(frames.size() == 20);
        CHECK(losses == 0);
        for (uint32_t i = 0; i < frames.size(); ++i) {
          for (uint32_t a = 0; a < 3; ++a) {
            const double ug = frames[i][a] * (range_g * 1e6 / 32768);
            // Half a digit; the ADXL345 has digits of 1/256 g in every range.
            const double digit =
                chip.chip == SensorChip::adxl345 ? 3907 : chip.digit_ug_at_16g * range_g / 16.0;
            CHECK(std::abs(ug - bench.acceleration(i)[a]) <= digit / 2 + 1);
          }
        }
      }
    }
  }
}

TEST_CASE("a rate or range that the chip does not have is refused by name") {
  for (const Chip& chip : kChips) {
    CAPTURE(chip.name);
    Bench bench(chip.name);
    Sensor sensor;
    CHECK(sensor.open(bench.bus, 20000000, 16000000) == Status::wrong_rate);
    const uint32_t permille = chip.rates_mhz.back() / 1000;
    CHECK(sensor.open(bench.bus, permille * 1015, 16000000) == Status::wrong_rate);
    CHECK(sensor.open(bench.bus, permille * 1009, 16000000) == Status::ok);
    CHECK(sensor.open(bench.bus, chip.rates_mhz[0], 12000000) == Status::wrong_range);
    CHECK(sensor.open(bench.bus, chip.rates_mhz[0], 32000000) == Status::wrong_range);
  }
}

TEST_CASE("the ADXL345 gives more than 800 Hz on SPI alone") {
  Bench i2c("adxl345");
  Bench spi("adxl345", true);
  Sensor sensor;
  CHECK(sensor.open(i2c.bus, 1600000, 16000000) == Status::wrong_rate);
  REQUIRE(sensor.open(spi.bus, 1600000, 16000000) == Status::ok);
  REQUIRE(sensor.start() == Status::ok);
  CHECK(spi.model->rate_mhz() == 1600000);
  REQUIRE(sensor.open(spi.bus, 3200000, 16000000) == Status::ok);
  REQUIRE(sensor.start() == Status::ok);
  CHECK(spi.model->rate_mhz() == 3200000);
}

TEST_CASE("on SPI every chip gives the frames that it gives on I2C") {
  for (const Chip& chip : kChips) {
    CAPTURE(chip.name);
    std::vector<std::array<int16_t, 3>> frames[2];
    for (const bool spi : {false, true}) {
      Bench bench(chip.name, spi);
      Sensor sensor;
      REQUIRE(sensor.open(bench.bus, chip.rates_mhz.back(), 8000000) == Status::ok);
      CHECK(sensor.chip() == chip.chip);
      REQUIRE(sensor.start() == Status::ok);
      bench.pass_frames(20);
      uint32_t losses = 0;
      frames[spi] = drain(sensor, losses);
      CHECK(losses == 0);
      SelfTestResult test;
      bench.still = true;
      REQUIRE(sensor.self_test(test) == Status::ok);
      CHECK(test.passed);
    }
    CHECK(frames[0].size() == 20);
    CHECK(frames[0] == frames[1]);
  }
}

TEST_CASE("an SPI that fails at any byte is told") {
  for (const Chip& chip : kChips) {
    CAPTURE(chip.name);
    uint32_t k = 0;
    for (bool opened = false; !opened; ++k) {
      CAPTURE(k);
      REQUIRE(k < 500);
      Bench bench(chip.name, true);
      bench.bytes_until_broken = k;
      Sensor sensor;
      const Status status = sensor.open(bench.bus, chip.rates_mhz[0], 2000000);
      opened = status == Status::ok && sensor.start() == Status::ok;
      if (!opened && status != Status::ok) {
        CHECK((status == Status::no_sensor || status == Status::sensor_failed));
      }
    }
    CHECK(k > 20);
  }
}

TEST_CASE("INT1 is high from the watermark on and low once the FIFO was read") {
  for (const Chip& chip : kChips) {
    CAPTURE(chip.name);
    Bench bench(chip.name);
    Sensor sensor;
    REQUIRE(sensor.open(bench.bus, chip.rates_mhz.back(), 4000000) == Status::ok);
    REQUIRE(sensor.start() == Status::ok);
    CHECK_FALSE(bench.model->int1());
    bench.pass_frames(kWatermark - 1);
    CHECK_FALSE(bench.model->int1());
    bench.pass_frames(1);
    CHECK(bench.model->int1());
    uint32_t losses = 0;
    CHECK(drain(sensor, losses).size() == kWatermark);
    CHECK_FALSE(bench.model->int1());
  }
}

TEST_CASE("a FIFO that ran over is one loss; what comes behind it is gap-free") {
  for (const Chip& chip : kChips) {
    CAPTURE(chip.name);
    Bench bench(chip.name);
    Sensor sensor;
    REQUIRE(sensor.open(bench.bus, chip.rates_mhz[0], 2000000) == Status::ok);
    REQUIRE(sensor.start() == Status::ok);
    uint32_t losses = 0;
    bench.pass_frames(chip.fifo);
    CHECK(drain(sensor, losses).size() == chip.fifo);
    CHECK(losses == 0);
    bench.pass_frames(chip.fifo + 1);
    CHECK(drain(sensor, losses).empty());
    CHECK(losses == 1);
    const uint32_t first = bench.measured;
    bench.pass_frames(chip.fifo);
    const auto frames = drain(sensor, losses);
    CHECK(losses == 1);
    REQUIRE(frames.size() == chip.fifo);
    CHECK(std::abs(frames[0][0] * (2e6 / 32768) - bench.acceleration(first)[0]) < 3000);
  }
}

TEST_CASE(
    "self-test passes a working chip, fails one whose push is too small, and leaves it as "
    "configured") {
  for (const Chip& chip : kChips) {
    CAPTURE(chip.name);
    Bench bench(chip.name);
    bench.still = true;
    Sensor sensor;
    REQUIRE(sensor.open(bench.bus, chip.rates_mhz.back(), 16000000) == Status::ok);
    SelfTestResult result;
    REQUIRE(sensor.self_test(result) == Status::ok);
    CHECK(result.passed);
    CHECK(std::abs(result.moved_ug[0]) > 200000);
    bench.model->set_self_test(
        {300000, chip.chip == SensorChip::adxl345 ? -300000 : 300000, 10000});
    REQUIRE(sensor.self_test(result) == Status::ok);
    CHECK_FALSE(result.passed);
    CHECK(std::abs(result.moved_ug[2] - 10000) < 4000);
    CHECK(bench.model->rate_mhz() == 0);
    REQUIRE(sensor.start() == Status::ok);
    CHECK(bench.model->rate_mhz() == doctest::Approx(chip.rates_mhz.back()).epsilon(0.005));
    bench.pass_frames(1);
    uint32_t losses = 0;
    const auto frames = drain(sensor, losses);
    REQUIRE(frames.size() == 1);
    CHECK(std::abs(frames[0][2] - 2048) < 16);  // 1 g of 16: range and push are as before
  }
}

int status_of_read(Sensor& sensor) {
  int16_t frames[8][kSensorAxes];
  uint32_t n = 0;
  bool lost = false;
  return static_cast<int>(sensor.read(frames, 8, n, lost));
}

TEST_CASE("a chip that resets itself is told before any frame, and works again once set up anew") {
  for (const Chip& chip : kChips) {
    for (const bool spi : {false, true}) {
      CAPTURE(chip.name);
      CAPTURE(spi);
      Bench bench(chip.name, spi);
      Sensor sensor;
      REQUIRE(sensor.open(bench.bus, chip.rates_mhz.back(), 8000000) == Status::ok);
      REQUIRE(sensor.start() == Status::ok);
      bench.pass_frames(20);
      uint32_t losses = 0;
      CHECK(drain(sensor, losses).size() == 20);
      bench.model->power_on_reset();
      CHECK(bench.model->rate_mhz() == 0);
      CHECK(status_of_read(sensor) == static_cast<int>(Status::sensor_failed));
      // As the device does when it begins to sense again: what `start` sets is not all.
      REQUIRE(sensor.start() == Status::ok);
      bench.pass_frames(20);
      const bool whole = status_of_read(sensor) == static_cast<int>(Status::ok);
      CHECK_FALSE(whole);
      REQUIRE(sensor.open(bench.bus, chip.rates_mhz.back(), 8000000) == Status::ok);
      REQUIRE(sensor.start() == Status::ok);
      bench.pass_frames(20);
      CHECK(drain(sensor, losses).size() == 20);
      CHECK(losses == 0);
    }
  }
}

TEST_CASE("a chip that has taken another rate or range is told before its next frame is read") {
  struct Change {
    const char* chip;
    uint8_t reg, value;  // by the data sheets
  };
  const Change changes[] = {
      {"lis2dw12", 0x20, 0x84},  // CTRL1: 800 Hz in place of 1600 Hz
      {"lis2dw12", 0x25, 0x04},  // CTRL6: 2 g in place of 8 g
      {"lis2dw12", 0x20, 0x00},  // power-down
      {"adxl345", 0x2C, 0x0C},   // BW_RATE: 400 Hz in place of 800 Hz
      {"adxl345", 0x31, 0x09},   // DATA_FORMAT: 4 g
      {"adxl345", 0x31, 0x02},   // 8 g, but 10 bits
      {"adxl345", 0x2D, 0x00},   // POWER_CTL: standby
      {"lsm6dso", 0x10, 0x9C},   // CTRL1_XL: 3333 Hz in place of 6667 Hz
      {"lsm6dso", 0x10, 0xA0},   // 2 g
  };
  for (const Change& change : changes) {
    for (const bool spi : {false, true}) {
      CAPTURE(change.chip);
      CAPTURE(change.reg);
      CAPTURE(change.value);
      const Chip* chip = nullptr;
      for (const Chip& c : kChips) {
        if (std::string(c.name) == change.chip) chip = &c;
      }
      Bench bench(change.chip, spi);
      Sensor sensor;
      REQUIRE(sensor.open(bench.bus, chip->rates_mhz.back(), 8000000) == Status::ok);
      REQUIRE(sensor.start() == Status::ok);
      bench.pass_frames(10);
      CHECK(status_of_read(sensor) == static_cast<int>(Status::ok));
      CHECK(status_of_read(sensor) == static_cast<int>(Status::ok));  // empties it
      bench.model->write(change.reg, change.value);
      bench.pass_frames(10);
      CHECK(status_of_read(sensor) == static_cast<int>(Status::sensor_failed));
      REQUIRE(sensor.open(bench.bus, chip->rates_mhz.back(), 8000000) == Status::ok);
      REQUIRE(sensor.start() == Status::ok);
      CHECK(status_of_read(sensor) == static_cast<int>(Status::ok));
    }
  }
}

TEST_CASE("nobody on the bus is no_sensor, one that falls silent is sensor_failed") {
  Bench bench("lis2dw12");
  bench.broken = true;
  Sensor sensor;
  CHECK(sensor.open(bench.bus, 1600000, 16000000) == Status::no_sensor);
  CHECK(bench.addresses.size() == 6);  // both addresses of three chips
  int16_t frames[8][kSensorAxes];
  uint32_t n = 0;
  bool lost = false;
  SelfTestResult result;
  CHECK(sensor.start() == Status::no_sensor);
  CHECK(sensor.read(frames, 8, n, lost) == Status::no_sensor);
  CHECK(sensor.self_test(result) == Status::no_sensor);
  bench.broken = false;
  REQUIRE(sensor.open(bench.bus, 1600000, 16000000) == Status::ok);
  REQUIRE(sensor.start() == Status::ok);
  bench.broken = true;
  CHECK(sensor.read(frames, 8, n, lost) == Status::sensor_failed);
  CHECK(sensor.start() == Status::sensor_failed);
  CHECK(sensor.self_test(result) == Status::sensor_failed);
}

TEST_CASE("a chip that stops measuring fails the self-test in bounded time") {
  Bench bench("lsm6dso");
  Sensor sensor;
  REQUIRE(sensor.open(bench.bus, 1667000, 16000000) == Status::ok);
  bench.bus.sleep_ms = [](void*, uint32_t) {};  // no time passes, so no frame ever comes
  SelfTestResult result;
  CHECK(sensor.self_test(result) == Status::sensor_failed);
}

}  // namespace
}  // namespace kilotune
