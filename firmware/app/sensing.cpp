// From the sensor's FIFO straight into the window; when to learn, and when to commit.
#include "app/sensing.h"

#include "boards/board.h"
#include "sensors/sensor.h"

namespace kilotune::sensing {
namespace {

constexpr uint32_t kFrames = 8;      // taken from the FIFO at a time
constexpr uint32_t kRetryMs = 1000;  // between attempts to wake a sensor that failed

Engine* engine = nullptr;
Session* session = nullptr;
Sensor sensor;
SensorState state;
uint32_t looked_ms = 0;    // when the FIFO was last empty, or a failed sensor last looked for
uint32_t heard_ms = 0;     // when it gave something last, or was started
uint32_t patience_ms = 0;  // after which the FIFO is checked without an interrupt
uint32_t quiet_ms = 0;     // after which a sensor without a frame has failed
bool emptying = false;     // the FIFO may hold more
bool waking = false;       // a failed sensor was set up anew, and has to give frames now
bool gave_up = false;      // the image's settings for learning alone are not usable
uint32_t refused_at = 0;   // the checkpoint that stayed when a commit was refused

// The sensor must be what the model was made for.
Status open_sensor(const FeatureConfig* f) {
  const SensorBus* bus = board::sensor_bus();
  if (bus == nullptr) return Status::no_sensor;
  if (f == nullptr) return Status::no_model;
  if (f->axes == 0) return Status::no_features;
  if (f->axes > kSensorAxes) return Status::wrong_axes;
  // One and a half times as long as the FIFO takes to its watermark; it holds at least twice that.
  patience_ms = static_cast<uint32_t>(uint64_t{kWatermark} * 1500000 / f->rate_mhz) + 1;
  quiet_ms = static_cast<uint32_t>(uint64_t{kWatermark} * 3000000 / f->rate_mhz) + 1;
  return sensor.open(*bus, f->rate_mhz, f->full_scale_ug);
}

Status open_sensor() { return open_sensor(engine->is_open() ? &engine->features() : nullptr); }

void fail(Status status) {
  state.state = status;
  state.sensing = false;
  waking = false;
  looked_ms = board::millis();
}

// A failed sensor is set up anew every second; it works again when it gives frames. Until then the
// window that it left stays readable.
bool awake() {
  const uint32_t now = board::millis();
  if (!waking) {
    if (now - looked_ms < kRetryMs) return false;
    looked_ms = now;
    waking = open_sensor() == Status::ok && sensor.start() == Status::ok;
    return false;
  }
  if (now - looked_ms < patience_ms) return false;
  waking = false;
  looked_ms = now;
  int16_t frames[1][kSensorAxes];
  uint32_t n = 0;
  bool lost = false;
  if (sensor.read(frames, 1, n, lost) != Status::ok || (n == 0 && !lost)) return false;
  state.state = Status::ok;
  state.chip = sensor.chip();
  return true;
}

void learn_anew() {
  state.commit = Status::ok;
  gave_up = session->learn_alone() != Status::ok;
  state.sensing = false;  // its stream ended with the phase
}

void commit() {
  // An adapter that flash did not take is used until the next reset; light and `status` show it.
  state.commit = engine->commit();
  refused_at = engine->checkpoint().sequence;
  session->alone_done();
}

// What the device decides without a host.
void decide(bool learn) {
  const uint32_t windows = engine->alone_windows();
  if (windows == 0 || gave_up) return;
  const Phase phase = engine->phase();
  if (learn || (phase == Phase::idle && !session->steered())) return learn_anew();
  if (const Life* life = engine->living(); life != nullptr && life->kept() != Status::ok) {
    state.commit = life->kept();  // of a phase of its own
    refused_at = engine->checkpoint().sequence;
  }
  if (!session->alone()) return;
  if (phase == Phase::detect) return commit();
  if (phase == Phase::learn && engine->windows_learned() >= windows) {
    session->note_change();
    // Refused only if no window was held back yet: then learning continues with the next ones.
    if (engine->learn_end() == Status::ok) state.sensing = false;
  }
}

bool resume() {
  const FeatureConfig& f = engine->features();
  session->release();
  Status status = engine->stream_begin(StreamKind::samples, f.rate_mhz, f.axes, 0);
  if (status == Status::ok) status = sensor.start();
  if (status != Status::ok) {
    fail(status);
    return false;
  }
  state.sensing = true;
  state.gap_at = 0;
  looked_ms = heard_ms = board::millis();
  return true;
}

// The first axes of x, y, z are the model's.
uint32_t pack(int16_t (&frames)[kFrames][kSensorAxes], uint32_t n) {
  const uint32_t axes = engine->features().axes;
  int16_t* to = frames[0];
  for (uint32_t i = 0; i < n; ++i) {
    for (uint32_t a = 0; a < axes; ++a) *to++ = frames[i][a];
  }
  return n * axes * 2;
}

bool take() {
  const uint32_t now = board::millis();
  const bool quiet = now - heard_ms >= quiet_ms;
  const bool due = emptying || quiet || now - looked_ms >= patience_ms;
  if (!due && !board::sensor_interrupt()) return false;
  int16_t frames[kFrames][kSensorAxes];
  uint32_t n = 0;
  bool lost = false;
  const Status status = sensor.read(frames, kFrames, n, lost);
  const bool heard = n > 0 || lost;
  if (status != Status::ok || (quiet && !heard)) {
    fail(status == Status::ok ? Status::sensor_failed : status);
    return true;
  }
  if (heard) heard_ms = now;
  if (n > 0) {
    state.samples += n;
    if (engine->phase() == Phase::learn || engine->lives()) session->note_change();
    const auto* bytes = reinterpret_cast<const uint8_t*>(frames);
    // Refused only if a request has ended the stream: then a new one begins.
    if (engine->stream_push(bytes, pack(frames, n)) != Status::ok) state.sensing = false;
  }
  if (lost) {
    ++state.overruns;
    state.gap_at = engine->stream_frames();
    engine->stream_gap();
  }
  emptying = n == kFrames;
  if (!emptying) looked_ms = now;
  return heard;
}

Status test(SensorTest& out) {
  if (state.state != Status::ok) return state.state;
  SelfTestResult result;
  state.sensing = false;
  const Status status = sensor.self_test(result);
  if (status != Status::ok) fail(status);
  out.passed = result.passed;
  for (uint32_t a = 0; a < kSensorAxes; ++a) {
    out.moved_mg[a] = static_cast<int16_t>(result.moved_ug[a] / 1000);  // 32 g at most
  }
  return status;
}

}  // namespace

void describe(Board& callbacks) {
  static constexpr SensorCalls kCalls = {[] { return state; }, test};
  callbacks.sensor = &kCalls;
}

bool blind() { return state.state == Status::sensor_failed; }

bool unkept() {
  // A host's commit has made good for it.
  if (engine->checkpoint().sequence != refused_at) state.commit = Status::ok;
  return state.commit != Status::ok;
}

void begin(Engine& e, Session& s) {
  engine = &e;
  session = &s;
  begin_again();
}

void begin_again() {
  state.sensing = gave_up = waking = false;
  state.commit = Status::ok;
  state.state = open_sensor();
  state.chip = sensor.chip();
}

// Tries the settings on the chip itself, then restores its own.
Status check(const FeatureConfig& features) {
  const Status status = open_sensor(&features);
  static_cast<void>(open_sensor());
  state.sensing = false;
  const bool wrong =
      status == Status::wrong_rate || status == Status::wrong_range || status == Status::wrong_axes;
  return wrong ? status : Status::ok;
}

bool step(bool learn) {
  if (state.state == Status::sensor_failed && !awake()) return false;
  if (state.state != Status::ok) return false;
  if (session->occupied() || engine->phase() == Phase::train) {
    state.sensing = false;
    return false;
  }
  decide(learn);
  if (engine->phase() == Phase::train) return true;
  if (!state.sensing) return resume();
  return take();
}

}  // namespace kilotune::sensing
