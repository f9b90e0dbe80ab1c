// Passes requests to their handlers, exactly once each; requests about the device itself.
#include "runtime/link/session.h"

#include <cstring>

#include "runtime/link/codec.h"

namespace kilotune {
namespace {

uint8_t* put_header(uint8_t* frame, uint8_t kind, uint16_t session, uint16_t sequence) {
  frame[0] = kProtocolVersion;
  frame[1] = kind;
  store_u16(frame + 2, session);
  store_u16(frame + 4, sequence);
  return frame + kWireHeaderBytes;
}

zcbor_string text(const char* s) { return to_zcbor(s, static_cast<uint32_t>(std::strlen(s))); }

// Place of a flag in counts that are kept by bit.
constexpr uint32_t bit_of(uint32_t flag) {
  uint32_t bit = 0;
  while (flag >> bit > 1) ++bit;
  return bit;
}

status_checkpoint to_message(const RecordInfo& c) {
  status_checkpoint m{};
  m.sequence = c.sequence;
  m.total_bytes = c.bytes;
  m.crc = c.crc;
  m.windows = c.windows;
  m.steps = c.steps;
  m.erases = c.erases;
  return m;
}

status_report to_message(const LearnReport& r) {
  status_report m{};
  m.learned = r.learned;
  m.held = r.held;
  m.passes_done = r.passes_done;
  m.passes_kept = r.passes_kept;
  m.loss_calibration_held = r.loss_calibration_held;
  m.loss_candidate_held = r.loss_candidate_held;
  m.loss_calibration_learned = r.loss_calibration_learned;
  m.loss_candidate_learned = r.loss_candidate_learned;
  m.kept_candidate = r.kept_candidate;
  m.scorer = static_cast<uint32_t>(r.scorer);
  m.threshold = r.threshold;
  m.dropped = r.dropped;
  m.apart = r.apart;
  m.candidate_allowed = r.candidate_allowed;
  m.auc_calibration = r.auc_calibration;
  m.auc_candidate = r.auc_candidate;
  m.auc_nearest = r.auc_nearest;
  m.auc_combined = r.auc_combined;
  return m;
}

status_counters to_message(const Counters& c) {
  status_counters m{};
  m.windows = c.windows;
  m.clipped = c.refused[bit_of(kClipped)];
  m.constant = c.refused[bit_of(kConstant)];
  m.anomalous = c.refused[bit_of(kAnomalous)];
  m.stuck = c.refused[bit_of(kStuck)];
  m.saturated = c.saturated;
  m.train_steps = c.train_steps;
  return m;
}

status_guard to_message(const GuardReport& g, const Counters& c) {
  status_guard m{};
  m.reasons = g.reasons;
  m.returned = g.returned;
  m.early = g.early;
  m.early_alarms = g.early_alarms;
  m.drift_weights = g.drift_weights;
  m.drift_biases = g.drift_biases;
  m.aged = g.aged;
  m.unsteady = g.unsteady;
  m.loss_early_before = g.loss_early_before;
  m.loss_early_after = g.loss_early_after;
  m.margin_first = g.margin_first;
  m.margin_now = g.margin_now;
  m.told_first = g.told_first;
  m.told_now = g.told_now;
  m.shift = g.shift;
  m.drifted = c.refused[bit_of(kDrifted)];
  m.inputs_saturated = c.inputs_saturated;
  m.early_loss = c.objections[bit_of(kEarlyLoss)];
  m.parameters = c.objections[bit_of(kParameters)];
  m.alarms = c.objections[bit_of(kEarlyAlarms)];
  m.tolerant = c.objections[bit_of(kTolerant)];
  m.insensitive = c.objections[bit_of(kInsensitive)];
  m.budget = c.objections[bit_of(kAged)];
  m.unlike = c.objections[bit_of(kUnlike)];
  m.shifted = c.objections[bit_of(kShifted)];
  m.last_reasons = c.last_reasons;
  m.last_window = c.last_reasons_window;
  return m;
}

error_answer to_message(uint8_t kind, Status status, uint32_t detail) {
  error_answer m{};
  m.kind = kind;
  m.status = static_cast<uint32_t>(status);
  m.detail = detail;
  return m;
}

}  // namespace

Session::Session(Engine& engine, const Link& link, const Board& board)
    : engine_(engine),
      link_(link),
      board_(board),
      auth_(board.keys, {board.unique_id, board.unique_id_bytes}, board.millis(board.context)),
      decoder_(rx_, sizeof rx_) {}

void Session::receive(const uint8_t* bytes, uint32_t n) {
  for (uint32_t i = 0; i < n && !reset_pending_;) {
    bool complete = false;
    i += decoder_.take(bytes + i, n - i, complete);
    if (complete) receive_frame();
  }
  if (!reset_pending_) return;
  reset_pending_ = false;
  session_ = 0;  // if reset returns, as in a process, what follows is a new boot
  board_.reset(board_.context);
}

bool Session::background() {
  begin_phase();
  if (engine_.phase() == Phase::train) {
    ++generation_;
    pushing_ = false;  // its end may write a note, and flash has one staging place
  }
  return engine_.background();
}

void Session::receive_frame() {
  const uint8_t* frame = decoder_.body();
  if (decoder_.body_bytes() < kWireHeaderBytes || (frame[1] & kAnswer) != 0) {
    ++dropped_;
    return;
  }
  const uint16_t session = load_u16(frame + 2), sequence = load_u16(frame + 4);
  if (frame[0] != kProtocolVersion) return refuse(Status::bad_version, kProtocolVersion);
  const bool opens = frame[1] == static_cast<uint8_t>(Kind::hello) && session != session_;
  if (session == 0 || (session != session_ && !opens)) return refuse(Status::no_session, session_);

  // Sequence numbers wrap around: the nearer half counts as newer.
  const auto ahead = static_cast<int16_t>(static_cast<uint16_t>(sequence - counter_));
  if (!opens && ahead < 0) {
    ++dropped_;
    return;
  }
  const uint32_t counter = opens ? sequence : counter_ + static_cast<uint32_t>(ahead);
  uint32_t n = decoder_.body_bytes();
  detail_ = 0;
  const Status status = admit(opens, counter, n);
  if (status != Status::ok) return refuse(status, detail_);
  if (!opens && ahead == 0) {
    ++repeated_;
  } else {
    if (opens) open_session(session);
    counter_ = counter;
    const auto kind = static_cast<uint8_t>(frame[1] & ~kTagged);
    execute(kind, {frame + kWireHeaderBytes, n - kWireHeaderBytes});
  }
  frame_write(tx_, kWireHeaderBytes + answer_bytes_, link_);
}

// Whether a request may be executed; removes the tag from its `n` bytes. A refusal here leaves no
// trace: neither the counter nor the stored answer changes.
Status Session::admit(bool opens, uint32_t counter, uint32_t& n) {
  const uint8_t* frame = decoder_.body();
  tagged_ = (frame[1] & kTagged) != 0;
  if (!tagged_) {
    const Lock lock = auth_.lock();
    if (opens || lock == Lock::none) return Status::ok;
    const Route* route = find_route(frame[1]);
    const Access access = route == nullptr ? Access::owner : route->access;
    const bool open = access == Access::anyone || (access == Access::reader && lock != Lock::all);
    return open && !auth_.confirmed() ? Status::ok : Status::locked;
  }
  if (n < kWireHeaderBytes + kTagBytes) return Status::bad_message;
  n -= kTagBytes;
  if (counter < counter_) return Status::locked;  // used up: a new challenge is needed
  const Status status = auth_.check(counter, frame, n, board_.millis(board_.context));
  if (status == Status::ok && succeeds_) succeed_session();
  return status;
}

void Session::open_session(uint16_t session) {
  session_ = session;
  stream_ = 0;
  auth_.forget();
  // On a locked device anyone can open a session: it changes nothing until it is authenticated.
  succeeds_ = true;
  if (auth_.lock() == Lock::none) succeed_session();
}

// Whoever started to collect windows is gone; windows of the next host must not be learned unasked.
void Session::succeed_session() {
  succeeds_ = false;
  const bool abandoned = engine_.phase() == Phase::learn && !alone_;
  if (abandoned && engine_.learn_cancel() == Status::ok) ++generation_;
}

void Session::refuse(Status status, uint32_t detail) {
  const uint8_t* request = decoder_.body();
  uint8_t frame[kWireHeaderBytes + 16 + kFrameCrcBytes];
  const auto kind = static_cast<uint8_t>(request[1] & ~kTagged);
  const error_answer message = to_message(kind, status, detail);
  size_t n = 0;
  uint8_t* payload = put_header(frame, kErrorKind, load_u16(request + 2), load_u16(request + 4));
  if (cbor_encode_error_answer(payload, 16, &message, &n) != ZCBOR_SUCCESS) return;
  ++dropped_;
  frame_write(frame, kWireHeaderBytes + static_cast<uint32_t>(n), link_);
}

const Session::Route* Session::find_route(uint8_t kind) {
  static constexpr Route kRoutes[] = {
#define KILOTUNE_REQUEST(number, name, request, answer, access, needs, effects, text) \
  {[](const uint8_t* in, size_t n, Fields& out, size_t* used) {                       \
     return cbor_decode_##request(in, n, &out.name, used);                            \
   },                                                                                 \
   [](Session& session, const Fields& m) { return session.on_##name(m.name); },       \
   Kind::name,                                                                        \
   Needs::needs,                                                                      \
   Access::access,                                                                    \
   effects},
#include "schema/requests.def"
#undef KILOTUNE_REQUEST
  };
  for (const Route& route : kRoutes) {
    if (static_cast<uint8_t>(route.kind) == kind) return &route;
  }
  return nullptr;
}

// Bytes after the fields make a message invalid.
Status Session::carry_out(const Route& route, const Bytes& message) {
  if (route.needs == Needs::model && !engine_.is_open()) return board_.opened;
  Fields fields;
  size_t used = 0;
  const bool good = route.decode(message.data, message.size, fields, &used) == ZCBOR_SUCCESS;
  return good && used == message.size ? route.handle(*this, fields) : Status::bad_message;
}

void Session::execute(uint8_t kind, const Bytes& message) {
  answer_bytes_ = 0;
  detail_ = 0;
  const Route* route = find_route(kind);
  const Status status = route != nullptr ? carry_out(*route, message) : Status::bad_message;
  auto answer_kind = static_cast<uint8_t>(kind | kAnswer | (tagged_ ? kTagged : 0));
  if (status == Status::ok) {
    if ((route->effects & kHolds) != 0) hold_engine();
    if ((route->effects & kSteers) != 0) take_over();
  } else {
    answer_bytes_ = 0;
    static_cast<void>(answer(cbor_encode_error_answer, to_message(kind, status, detail_)));
    answer_kind = kErrorKind;
  }
  put_header(tx_, answer_kind, session_, static_cast<uint16_t>(counter_));
  if (status == Status::ok && tagged_) {
    auth_.sign(counter_, tx_, kWireHeaderBytes + answer_bytes_);
    answer_bytes_ += kTagBytes;
  }
}

Status Session::on_hello(const None&) {
  uint8_t key_id[kKeyIdBytes];
  hello_answer a{};
  a.firmware = text(kFirmwareVersion);
  a.board = text(board_.id);
  a.unique_id = to_zcbor(board_.unique_id, board_.unique_id_bytes);
  a.max_frame = kMaxFrame;
  a.chunk = kChunkBytes;
  a.credit = board_.receive_bytes;
  a.result_ring = Engine::kResultRing;
  a.opened = static_cast<uint32_t>(board_.opened);
  a.phase = static_cast<uint32_t>(engine_.phase());
  a.lock = static_cast<uint32_t>(auth_.lock());
  a.key_id = to_zcbor(key_id, auth_.key_id(key_id));
  return answer(cbor_encode_hello_answer, a);
}

Status Session::on_model(const None&) {
  const Model& model = engine_.model();
  const FeatureConfig& features = engine_.features();
  model_answer a{};
  a.image_hash = to_zcbor(model.image_hash(), kHashBytes);
  a.base_hash = to_zcbor(model.base_hash(), kHashBytes);
  a.input_bytes = engine_.input_bytes();
  a.output_bytes = engine_.output_bytes();
  a.adapter_bytes = engine_.adapter_bytes();
  a.state_bytes = model.state_bytes;
  a.arena_bytes = model.arena_bytes;
  if (model.trainable()) {
    const Training training = model.training();
    a.loss = static_cast<uint32_t>(training.loss);
    a.method = training.method;
    a.classes = training.classes;
  }
  if (model.features != 0) {
    a.axes = features.axes;
    a.rate_mhz = features.rate_mhz;
    a.full_scale_ug = features.full_scale_ug;
    a.window = features.window;
    a.hop = features.hop;
    a.features = features.features_total;
  }
  return answer(cbor_encode_model_answer, a);
}

Status Session::on_status(const None&) {
  status_answer a{};
  a.phase = static_cast<uint32_t>(engine_.phase());
  a.generation = generation_;
  a.uptime_ms = board_.millis(board_.context);
  a.stream = stream_;
  if (engine_.is_open()) {
    a.windows_learned = engine_.windows_learned();
    a.train_steps = engine_.train_steps();
    a.steps_trained = engine_.steps_trained();
    a.passes = passes_;
    a.status_checkpoint_m = to_message(engine_.checkpoint());
    a.status_report_m = to_message(engine_.report());
    a.status_counters_m = to_message(engine_.counters());
    a.status_guard_m = to_message(engine_.report().guard, engine_.counters());
    a.known = engine_.counters().refused[bit_of(kKnown)];
  }
  const FrameCounters& f = decoder_.counters();
  a.status_link_m.frames = f.frames;
  a.status_link_m.bad_crc = f.bad_crc;
  a.status_link_m.bad_cobs = f.bad_cobs;
  a.status_link_m.too_long = f.too_long;
  a.status_link_m.dropped = dropped_;
  a.status_link_m.repeated = repeated_;
  if (board_.memory != nullptr) {
    MemoryUse use;
    board_.memory(board_.context, use);
    a.status_memory_m.static_bytes = use.static_bytes;
    a.status_memory_m.stack_bytes = use.stack_bytes;
    a.status_memory_m.stack_peak = use.stack_peak;
  }
  if (board_.last_fault != nullptr) {
    const LastFault fault = board_.last_fault(board_.context);
    a.status_fault_m.pc = fault.pc;
    a.status_fault_m.lr = fault.lr;
    a.status_fault_m.fault_status = fault.status;
  }
  a.status_sensor_m.anomalies = engine_.counters().anomalies;
  if (board_.sensor != nullptr) {
    const SensorState s = board_.sensor->state();
    a.status_sensor_m.chip = static_cast<uint32_t>(s.chip);
    a.status_sensor_m.sensor_state = static_cast<uint32_t>(s.state);
    a.status_sensor_m.sensing = s.sensing;
    a.status_sensor_m.alone = alone_;
    a.status_sensor_m.samples = s.samples;
    a.status_sensor_m.overruns = s.overruns;
    a.status_sensor_m.commit_state = static_cast<uint32_t>(s.commit);
  }
  a.restart_cause = static_cast<uint32_t>(board_.restart_cause);
  a.stable = engine_.is_open() && engine_.checkpoint_is_stable();
  a.objected = engine_.counters().objected;
  a.last_returned = engine_.counters().last_returned;
  return answer(cbor_encode_status_answer, a);
}

Status Session::on_reset(const None&) {
  if (board_.reset == nullptr) return Status::unavailable;
  reset_pending_ = true;
  return Status::ok;
}

Status Session::answer_checkpoint() {
  return answer(cbor_encode_checkpoint_answer, to_message(engine_.checkpoint()));
}

}  // namespace kilotune
