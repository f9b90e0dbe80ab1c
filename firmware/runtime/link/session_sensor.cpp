// A sensor that feeds the engine: whether host or device may use the engine, and requests about the
// sensor.
#include "runtime/link/codec.h"
#include "runtime/link/session.h"

namespace kilotune {
namespace {

constexpr uint32_t kHeldMs = 2000;  // within this time a host returns to what it left in the engine

}  // namespace

bool Session::occupied() const {
  // Anyone may have ended its stream with a `hello`: a host's learn phase waits for the host.
  const bool host_learns = engine_.phase() == Phase::learn && !alone_;
  if (stream_ != 0 || host_learns) return true;
  return held_ && board_.millis(board_.context) - held_ms_ < kHeldMs;
}

// On a locked device, only holders of the key can keep it from sensing.
void Session::hold_engine() {
  if (auth_.lock() != Lock::none && !tagged_) return;
  held_ = true;
  held_ms_ = board_.millis(board_.context);
}

Status Session::learn_alone() {
  if (engine_.phase() == Phase::learn && engine_.learn_cancel() != Status::ok) return Status::busy;
  const LearnConfig config = engine_.alone_config();
  ++generation_;
  passes_ = config.passes;
  alone_ = true;
  steered_ = false;
  return engine_.learn_begin(config);
}

// A host changes what the device learns, so what the device has started by itself ends.
void Session::take_over() {
  if (alone_ && engine_.phase() == Phase::learn && engine_.learn_cancel() == Status::ok)
    ++generation_;
  steered_ = true;
  alone_ = false;
}

Status Session::on_sensor_test(const None&) {
  if (board_.sensor == nullptr) return Status::no_sensor;
  SensorTest test;
  const Status status = board_.sensor->test(test);
  if (status != Status::ok) return status;
  sensor_test_answer a{};
  a.passed = test.passed;
  a.x_mg = test.moved_mg[0];
  a.y_mg = test.moved_mg[1];
  a.z_mg = test.moved_mg[2];
  return answer(cbor_encode_sensor_test_answer, a);
}

Status Session::on_raw(const uint32_t& from) {
  if (board_.sensor == nullptr) return Status::no_sensor;
  const SensorState sensor = board_.sensor->state();
  // What a sensor gave before it failed can still be read.
  const bool left =
      sensor.state == Status::sensor_failed && !occupied() && from < engine_.stream_frames();
  if (sensor.state != Status::ok && !left) return sensor.state;
  if (engine_.phase() == Phase::train) return Status::busy;
  if (!sensor.sensing && !left) return Status::wrong_state;
  // The request is decoded, so its place is free; the answer's own would overlap with what is
  // encoded.
  raw_answer a{};
  const uint32_t bytes = engine_.stream_copy(from, rx_, kChunkBytes, a.frames_first);
  a.data = to_zcbor(rx_, bytes);
  a.frames_end = engine_.stream_frames();
  a.gaps = sensor.overruns;
  a.gap_at = sensor.gap_at;
  return answer(cbor_encode_raw_answer, a);
}

}  // namespace kilotune
