// What all accelerometers have in common: detection, gaps, and the self-test.
#include "sensors/sensor.h"

namespace kilotune {
namespace {

constexpr uint32_t kTestFrames = 8;        // averaged, with and without the push
constexpr uint32_t kTestPatienceMs = 500;  // for these frames; they take 160 ms at 50 Hz

bool answers(const SensorDriver& driver, const SensorPort& port) {
  uint8_t identity = 0;
  return port.read(driver.identity_register, &identity, 1) && identity == driver.identity;
}

}  // namespace

Status Sensor::open(const SensorBus& bus, uint32_t rate_mhz, uint32_t full_scale_ug) {
  driver_ = nullptr;
  rate_mhz_ = rate_mhz;
  full_scale_ug_ = full_scale_ug;
  for (const SensorDriver* const* d = sensor_drivers(); *d != nullptr; ++d) {
    for (const uint8_t address : (*d)->addresses) {
      port_ = {&bus, address};
      if (bus.spi) port_.burst = (*d)->spi_burst;
      if (!answers(**d, port_)) continue;
      driver_ = *d;
      return driver_->configure(port_, rate_mhz, full_scale_ug);
    }
  }
  return Status::no_sensor;
}

Status Sensor::start() {
  if (driver_ == nullptr) return Status::no_sensor;
  emptying_ = false;
  return driver_->start(port_) ? Status::ok : Status::sensor_failed;
}

Status Sensor::read(int16_t (*frames)[kSensorAxes], uint32_t max, uint32_t& n, bool& lost) {
  n = 0;
  lost = false;
  if (driver_ == nullptr) return Status::no_sensor;
  FifoFill fill;
  if (!driver_->fill(port_, fill)) return Status::sensor_failed;
  if (!emptying_ && !driver_->intact(port_)) return Status::sensor_failed;
  emptying_ = fill.frames > max && !fill.overrun;
  if (fill.overrun) {
    lost = true;
    return start();
  }
  const uint32_t count = fill.frames < max ? fill.frames : max;
  for (uint32_t i = 0; i < count; ++i) {
    bool taken = false;
    if (!driver_->frame(port_, frames[n], taken)) return Status::sensor_failed;
    if (taken) ++n;
  }
  return Status::ok;
}

// The mean of the next kTestFrames frames.
bool Sensor::mean_ug(int32_t (&out)[kSensorAxes]) const {
  int32_t sum[kSensorAxes] = {};
  uint32_t frames = 0;
  if (!driver_->start(port_)) return false;
  for (uint32_t ms = 0; frames < kTestFrames; ++ms) {
    FifoFill fill;
    if (ms == kTestPatienceMs || !driver_->fill(port_, fill)) return false;
    if (fill.frames == 0) {
      port_.bus->sleep_ms(port_.bus->context, 1);
      continue;
    }
    int16_t frame[kSensorAxes];
    bool taken = false;
    if (!driver_->frame(port_, frame, taken)) return false;
    if (!taken) continue;
    ++frames;
    for (uint32_t a = 0; a < kSensorAxes; ++a) sum[a] += frame[a];
  }
  const int64_t ug = driver_->self_test.full_scale_ug;
  for (uint32_t a = 0; a < kSensorAxes; ++a) {
    out[a] = static_cast<int32_t>(sum[a] * ug / (32768 * static_cast<int32_t>(kTestFrames)));
  }
  return true;
}

Status Sensor::self_test(SelfTestResult& out) {
  out = {{0, 0, 0}, false};
  if (driver_ == nullptr) return Status::no_sensor;
  const SelfTestPlan& plan = driver_->self_test;
  Status status = driver_->configure(port_, plan.rate_mhz, plan.full_scale_ug);
  if (status != Status::ok) return status;
  const auto settle = [&] { port_.bus->sleep_ms(port_.bus->context, plan.settle_ms); };
  int32_t without[kSensorAxes], with[kSensorAxes];
  bool worked = driver_->start(port_);
  settle();
  worked = worked && mean_ug(without) && driver_->push(port_, true);
  settle();
  worked = worked && mean_ug(with);
  worked = driver_->push(port_, false) && worked;
  status = driver_->configure(port_, rate_mhz_, full_scale_ug_);
  if (!worked || status != Status::ok) return Status::sensor_failed;
  out.passed = true;
  for (uint32_t a = 0; a < kSensorAxes; ++a) {
    out.moved_ug[a] = with[a] - without[a];
    const bool inside = out.moved_ug[a] >= plan.low_ug[a] && out.moved_ug[a] <= plan.high_ug[a];
    out.passed = out.passed && inside;
  }
  return Status::ok;
}

}  // namespace kilotune
