// Requests to their handlers, exactly once each; what a host asks about the device itself.
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

status_checkpoint to_message(const RecordInfo& c) {
  return {c.sequence, c.bytes, c.crc, c.windows, c.steps, c.erases};
}

status_report to_message(const LearnReport& r) {
  return {r.learned,
          r.held,
          r.passes_done,
          r.passes_kept,
          r.loss_calibration_held,
          r.loss_candidate_held,
          r.loss_calibration_learned,
          r.loss_candidate_learned,
          r.kept_candidate,
          static_cast<uint32_t>(r.scorer),
          r.threshold,
          r.dropped,
          r.candidate_allowed,
          r.auc_calibration,
          r.auc_candidate,
          r.auc_nearest,
          r.auc_combined};
}

status_counters to_message(const Counters& c) {
  return {c.windows,    c.refused[0], c.refused[1], c.refused[2],
          c.refused[3], c.saturated,  c.train_steps};
}

status_guard to_message(const GuardReport& g, const Counters& c) {
  return {g.reasons,
          g.returned,
          g.early,
          g.early_alarms,
          g.drift_weights,
          g.drift_biases,
          g.aged,
          g.unsteady,
          g.loss_early_before,
          g.loss_early_after,
          g.margin_first,
          g.margin_now,
          g.told_first,
          g.told_now,
          g.shift,
          c.refused[4],
          c.inputs_saturated,
          c.objections[0],
          c.objections[1],
          c.objections[2],
          c.objections[3],
          c.objections[4],
          c.objections[5],
          c.objections[6],
          c.objections[7],
          c.last_reasons,
          c.last_reasons_window};
}

}  // namespace

Session::Session(Engine& engine, const Link& link, const Board& board)
    : engine_(engine),
      link_(link),
      board_(board),
      auth_(board.keys, {board.unique_id, board.unique_id_bytes}, board.millis(board.context)),
      decoder_(rx_, sizeof rx_) {}

void Session::receive(const uint8_t* bytes, uint32_t n) {
  for (uint32_t i = 0; i < n && !reset_pending_; ++i) {
    if (decoder_.push(bytes[i])) receive_frame();
  }
  if (!reset_pending_) return;
  reset_pending_ = false;
  session_ = 0;  // where reset returns, as in a process, what follows is a new boot
  board_.reset(board_.context);
}

bool Session::background() {
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

// Whether a request may be carried out; takes the tag off its `n` bytes. What is refused here
// leaves no trace: neither counter nor stored answer are touched.
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
  if (counter < counter_) return Status::locked;  // used up: it takes a new challenge
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

// Who began to collect windows is gone: the next one's must not be learned from unasked.
void Session::succeed_session() {
  succeeds_ = false;
  const bool abandoned = engine_.phase() == Phase::learn && !alone_;
  if (abandoned && engine_.learn_cancel() == Status::ok) ++generation_;
}

void Session::refuse(Status status, uint32_t detail) {
  const uint8_t* request = decoder_.body();
  uint8_t frame[kWireHeaderBytes + 16 + kFrameCrcBytes];
  const auto kind = static_cast<uint8_t>(request[1] & ~kTagged);
  const error_answer message{kind, static_cast<uint32_t>(status), detail};
  size_t n = 0;
  uint8_t* payload = put_header(frame, kErrorAnswer, load_u16(request + 2), load_u16(request + 4));
  if (cbor_encode_error_answer(payload, 16, &message, &n) != ZCBOR_SUCCESS) return;
  ++dropped_;
  frame_write(frame, kWireHeaderBytes + static_cast<uint32_t>(n), link_);
}

const Session::Route* Session::find_route(uint8_t kind) {
  static constexpr Route kRoutes[] = {
      {&Session::on_hello, Kind::hello, false, Access::anyone},
      {&Session::on_model, Kind::model, true, Access::reader},
      {&Session::on_status, Kind::status, false, Access::reader},
      {&Session::on_reset, Kind::reset, false, Access::owner},
      {&Session::on_challenge, Kind::challenge, false, Access::anyone},
      {&Session::on_key, Kind::key, false, Access::owner},
      {&Session::on_learn_begin, Kind::learn_begin, true, Access::owner, kSteers},
      {&Session::on_learn_end, Kind::learn_end, true, Access::owner},
      {&Session::on_learn_cancel, Kind::learn_cancel, true, Access::owner, kSteers},
      {&Session::on_stream_begin, Kind::stream_begin, true, Access::owner, kHolds},
      {&Session::on_samples, Kind::samples, true, Access::owner, kHolds},
      {&Session::on_stream_end, Kind::stream_end, true, Access::owner, kHolds},
      {&Session::on_results, Kind::results, true, Access::reader},
      {&Session::on_input_write, Kind::input_write, true, Access::owner, kHolds},
      {&Session::on_infer, Kind::infer, true, Access::owner, kHolds},
      {&Session::on_output_read, Kind::output_read, true, Access::reader, kHolds},
      {&Session::on_train_begin, Kind::train_begin, true, Access::owner, kHolds | kSteers},
      {&Session::on_train_step, Kind::train_step, true, Access::owner, kHolds | kSteers},
      {&Session::on_bench, Kind::bench, true, Access::owner, kHolds},
      {&Session::on_commit, Kind::commit, true, Access::owner},
      {&Session::on_commit_candidate, Kind::commit_candidate, true, Access::owner},
      {&Session::on_mark_stable, Kind::mark_stable, true, Access::owner},
      {&Session::on_rollback, Kind::rollback, true, Access::owner, kSteers},
      {&Session::on_restore, Kind::restore, true, Access::owner, kSteers},
      {&Session::on_pull, Kind::pull, true, Access::owner},
      {&Session::on_push_begin, Kind::push_begin, true, Access::owner},
      {&Session::on_push, Kind::push, true, Access::owner},
      {&Session::on_push_end, Kind::push_end, true, Access::owner, kSteers},
      {&Session::on_adapter_tag, Kind::adapter_tag, true, Access::owner},
      {&Session::on_model_begin, Kind::model_begin, false, Access::owner},
      {&Session::on_model_piece, Kind::model_piece, false, Access::owner},
      {&Session::on_model_end, Kind::model_end, false, Access::owner},
      {&Session::on_model_rollback, Kind::model_rollback, false, Access::owner},
      {&Session::on_sensor_test, Kind::sensor_test, false, Access::owner},
      {&Session::on_raw, Kind::raw, true, Access::owner},
  };
  for (const Route& route : kRoutes) {
    if (static_cast<uint8_t>(route.kind) == kind) return &route;
  }
  return nullptr;
}

void Session::execute(uint8_t kind, const Bytes& message) {
  answer_bytes_ = 0;
  detail_ = 0;
  const Route* route = find_route(kind);
  Status status = Status::bad_message;
  if (route != nullptr) {
    status =
        route->needs_model && !engine_.is_open() ? board_.opened : (this->*route->handler)(message);
  }
  auto answer_kind = static_cast<uint8_t>(kind | kAnswer | (tagged_ ? kTagged : 0));
  if (status == Status::ok) {
    if ((route->effects & kHolds) != 0) hold_engine();
    if ((route->effects & kSteers) != 0) take_over();
  } else {
    const error_answer error{kind, static_cast<uint32_t>(status), detail_};
    answer_bytes_ = 0;
    static_cast<void>(answer(cbor_encode_error_answer, error));
    answer_kind = kErrorAnswer;
  }
  put_header(tx_, answer_kind, session_, static_cast<uint16_t>(counter_));
  if (status == Status::ok && tagged_) {
    auth_.sign(counter_, tx_, kWireHeaderBytes + answer_bytes_);
    answer_bytes_ += kTagBytes;
  }
}

Status Session::on_hello(const Bytes& in) {
  if (in.size != 0) return Status::bad_message;
  uint8_t key_id[kKeyIdBytes];
  const uint32_t id_bytes = auth_.key_id(key_id);
  const hello_answer a{text(kFirmwareVersion),
                       text(board_.id),
                       to_zcbor(board_.unique_id, board_.unique_id_bytes),
                       kMaxFrame,
                       kChunkBytes,
                       board_.receive_bytes,
                       Engine::kResultRing,
                       static_cast<uint32_t>(board_.opened),
                       static_cast<uint32_t>(engine_.phase()),
                       static_cast<uint32_t>(auth_.lock()),
                       to_zcbor(key_id, id_bytes)};
  return answer(cbor_encode_hello_answer, a);
}

Status Session::on_model(const Bytes& in) {
  if (in.size != 0) return Status::bad_message;
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

Status Session::on_status(const Bytes& in) {
  if (in.size != 0) return Status::bad_message;
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
  }
  const FrameCounters& f = decoder_.counters();
  a.status_link_m = {f.frames, f.bad_crc, f.bad_cobs, f.too_long, dropped_, repeated_};
  if (board_.memory != nullptr) {
    MemoryUse use;
    board_.memory(board_.context, use);
    a.status_memory_m = {use.static_bytes, use.stack_bytes, use.stack_peak};
  }
  if (board_.last_fault != nullptr) {
    const LastFault fault = board_.last_fault(board_.context);
    a.status_fault_m = {fault.pc, fault.lr, fault.status};
  }
  a.status_sensor_m.anomalies = engine_.counters().anomalies;
  if (board_.sensor != nullptr) {
    const SensorState s = board_.sensor->state();
    a.status_sensor_m = {s.chip,     static_cast<uint32_t>(s.state), s.sensing, alone_, s.samples,
                         s.overruns, engine_.counters().anomalies};
  }
  a.restart_cause = board_.restart_cause;
  a.stable = engine_.is_open() && engine_.checkpoint_is_stable();
  a.objected = engine_.counters().objected;
  a.last_returned = engine_.counters().last_returned;
  return answer(cbor_encode_status_answer, a);
}

Status Session::on_reset(const Bytes& in) {
  if (in.size != 0) return Status::bad_message;
  if (board_.reset == nullptr) return Status::unavailable;
  reset_pending_ = true;
  return Status::ok;
}

Status Session::answer_checkpoint() {
  return answer(cbor_encode_checkpoint_answer, to_message(engine_.checkpoint()));
}

}  // namespace kilotune
