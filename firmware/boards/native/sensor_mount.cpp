// Recording and clock of a mounted sensor.
#include "sensor_mount.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

namespace kilotune::board {
namespace {

constexpr double kMicroG = 1e6;
constexpr int64_t kRawFullScaleUg = 16000000;  // of a raw file's 32768

[[noreturn]] void fail(const char* what, const std::string& name) {
  std::fprintf(stderr, "kilotune-native: %s: %s\n", what, name.c_str());
  std::exit(2);
}

uint64_t real_us() {
  using std::chrono::duration_cast;
  using std::chrono::microseconds;
  static const auto start = std::chrono::steady_clock::now();
  const auto elapsed = std::chrono::steady_clock::now() - start;
  return static_cast<uint64_t>(duration_cast<microseconds>(elapsed).count());
}

// x,y,z in g; a header line before them is skipped.
std::vector<MicroG> read_csv(std::istream& in, const std::string& name) {
  std::vector<MicroG> frames;
  std::string line;
  for (size_t number = 1; std::getline(in, line); ++number) {
    for (char& c : line) c = c == ',' || c == ';' || c == '\t' || c == '\r' ? ' ' : c;
    std::istringstream words(line);
    double g[3];
    if (words >> g[0] >> g[1] >> g[2]) {
      MicroG frame;
      for (size_t a = 0; a < 3; ++a) frame[a] = static_cast<int32_t>(std::lround(g[a] * kMicroG));
      frames.push_back(frame);
    } else if (number > 1 && line.find_first_not_of(' ') != std::string::npos) {
      fail("a line of the sensor's recording is not three numbers",
           name + ":" + std::to_string(number));
    }
  }
  return frames;
}

// int16 x y z, little-endian.
std::vector<MicroG> read_raw(std::istream& in, const std::string& name) {
  std::vector<MicroG> frames;
  uint8_t bytes[6];
  while (in.read(reinterpret_cast<char*>(bytes), sizeof bytes)) {
    MicroG frame;
    for (size_t a = 0; a < 3; ++a) {
      const auto counts = static_cast<int16_t>(bytes[2 * a] | bytes[2 * a + 1] << 8);
      frame[a] = static_cast<int32_t>(counts * kRawFullScaleUg / 32768);
    }
    frames.push_back(frame);
  }
  if (in.gcount() != 0) fail("the sensor's recording ends inside a frame", name);
  return frames;
}

}  // namespace

void SensorMount::load(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) fail("cannot open the sensor's recording", file);
  const bool csv = file.size() > 4 && file.compare(file.size() - 4, 4, ".csv") == 0;
  recording_ = csv ? read_csv(in, file) : read_raw(in, file);
  if (recording_.empty()) fail("the sensor's recording is empty", file);
}

void SensorMount::open(const Options& options) {
  real_us();  // time begins here
  if (options.sensor == nullptr) return;
  const std::string text = options.sensor;
  const size_t equals = text.find('=');
  if (equals == std::string::npos) fail("--sensor is not CHIP=FILE", text);
  model_ = make_sensor_model(text.substr(0, equals));
  if (model_ == nullptr) fail("there is no model of the sensor", text.substr(0, equals));
  load(text.substr(equals + 1));
  virtual_ = options.virtual_time;
  upset_ = options.upset;
  bus_.context = this;
  bus_.spi = options.sensor_spi;
  bus_.read = options.sensor_spi ? read_on_spi : read_on_i2c;
  bus_.write = options.sensor_spi ? write_on_spi : write_on_i2c;
  bus_.sleep_ms = [](void* self, uint32_t ms) {
    auto& mount = *static_cast<SensorMount*>(self);
    if (mount.is_virtual()) return mount.advance_us(uint64_t{ms} * 1000);
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  };
}

bool SensorMount::read_on_i2c(void* self, uint8_t address, uint8_t reg, uint8_t* out, uint32_t n) {
  auto& mount = *static_cast<SensorMount*>(self);
  mount.catch_up();
  if (!mount.model_->answers(address)) return false;
  mount.model_->read(reg, out, n);
  return true;
}

bool SensorMount::write_on_i2c(void* self, uint8_t address, uint8_t reg, uint8_t value) {
  auto& mount = *static_cast<SensorMount*>(self);
  mount.catch_up();
  if (!mount.model_->answers(address)) return false;
  mount.model_->write(reg, value);
  return true;
}

SpiWire SensorMount::wire() {
  catch_up();
  return {model_.get(),
          [](void* chip, bool on) { static_cast<SensorModel*>(chip)->spi_select(on); },
          [](void* chip, uint8_t* bytes, uint32_t n) {
            auto& model = *static_cast<SensorModel*>(chip);
            for (uint32_t i = 0; i < n; ++i) bytes[i] = model.spi_exchange(bytes[i]);
            return true;
          }};
}

bool SensorMount::read_on_spi(void* self, uint8_t, uint8_t reg, uint8_t* out, uint32_t n) {
  return spi_read(static_cast<SensorMount*>(self)->wire(), reg, out, n);
}

bool SensorMount::write_on_spi(void* self, uint8_t, uint8_t reg, uint8_t value) {
  return spi_write(static_cast<SensorMount*>(self)->wire(), reg, value);
}

uint64_t SensorMount::now_us() const { return virtual_us_ + (is_virtual() ? 0 : real_us()); }

// A virtual clock that has stopped continues as the computer's clock, from where it was.
void SensorMount::advance_us(uint64_t us) {
  virtual_us_ += us;
  catch_up();
  if (!is_virtual()) virtual_us_ -= real_us() < virtual_us_ ? real_us() : virtual_us_;
}

void SensorMount::catch_up() {
  if (model_ == nullptr) return;
  const uint64_t now = now_us();
  const uint64_t rate_mhz = model_->rate_mhz();
  phase_ += rate_mhz == 0 ? 0 : (now - measured_us_) * rate_mhz;
  measured_us_ = now;
  for (; phase_ >= 1000000000u; phase_ -= 1000000000u) {
    if (next_ < recording_.size()) model_->measure(recording_[next_++]);
  }
  upset();
}

void SensorMount::upset() {
  if (upset_.at_ms < 0 || now_us() < static_cast<uint64_t>(upset_.at_ms) * 1000) return;
  if (upset_.reg < 0) {
    model_->power_on_reset();
  } else {
    model_->write(static_cast<uint8_t>(upset_.reg), upset_.value);
  }
  upset_.at_ms = -1;
}

bool SensorMount::interrupt() {
  catch_up();
  return model_ != nullptr && model_->int1();
}

int SensorMount::idle_ms() {
  if (model_ == nullptr) return -1;
  if (!is_virtual()) return 1;
  advance_us(1000);
  return model_->rate_mhz() == 0 ? 1 : 0;  // nothing to hurry for
}

}  // namespace kilotune::board
