// Requests about learning and about streams of samples.
#include "runtime/link/codec.h"
#include "runtime/link/session.h"

namespace kilotune {
namespace {

// The decoder has checked the ranges of 8- and 16-bit fields.
uint8_t u8(uint32_t v) { return static_cast<uint8_t>(v); }
uint16_t u16(uint32_t v) { return static_cast<uint16_t>(v); }

}  // namespace

Status to_config(const train_config& m, TrainConfig& out) {
  const auto normal = [](uint32_t mantissa) { return mantissa == 0 || mantissa >= 0x8000u; };
  if (!normal(m.rate_mantissa) || !normal(m.decay_mantissa)) return Status::bad_argument;
  if (m.momentum_q15 > 32767u || m.accumulate == 0) return Status::bad_argument;
  out.rate = {u16(m.rate_mantissa), static_cast<int16_t>(m.rate_exponent)};
  out.decay = {u16(m.decay_mantissa), static_cast<int16_t>(m.decay_exponent)};
  out.momentum_q15 = u16(m.momentum_q15);
  out.accumulate = u16(m.accumulate);
  out.seed = m.seed;
  return Status::ok;
}

Status Session::on_learn_begin(const learn_begin_request& m) {
  const bool flags = m.labelled <= 1 && m.resume <= 1 && m.force <= 1 && m.jitter <= 1 &&
                     m.recalibrate <= 1 && m.lives <= 1 &&
                     m.apart <= static_cast<uint32_t>(Apart::ignore) &&
                     m.guard <= static_cast<uint32_t>(Guard::none);
  if (!flags || m.scorer > static_cast<uint32_t>(Scorer::combined)) return Status::bad_argument;
  LearnConfig config;
  const Status status = to_config(m.train_config_m, config.train);
  if (status != Status::ok) return status;
  config.passes = u16(m.passes);
  config.patience = u16(m.patience);
  config.hold_period = u8(m.hold_period);
  config.hold_count = u8(m.hold_count);
  config.labelled = u8(m.labelled);
  config.resume = u8(m.resume);
  config.scorer = static_cast<Scorer>(m.scorer);
  config.force = u8(m.force);
  config.noise = u8(m.noise);
  config.gain = u8(m.gain);
  config.jitter = u8(m.jitter);
  config.guard = static_cast<Guard>(m.guard);
  config.recalibrate = u8(m.recalibrate);
  config.lives = u8(m.lives);
  config.apart = static_cast<Apart>(m.apart);
  take_over();
  ++generation_;
  passes_ = config.passes;
  return engine_.learn_begin(config);
}

Status Session::on_learn_end(const None&) {
  ++generation_;
  return engine_.learn_end();
}

Status Session::on_learn_cancel(const None&) {
  ++generation_;
  return engine_.learn_cancel();
}

Status Session::on_stream_begin(const stream_begin_request& m) {
  if (m.stream == 0 || m.kind > static_cast<uint32_t>(StreamKind::features)) {
    return Status::bad_argument;
  }
  if (alone_ && engine_.phase() == Phase::learn) return Status::wrong_state;
  stream_ = 0;
  if (engine_.life().on != 0) ++generation_;  // a record ends
  const auto kind = static_cast<StreamKind>(m.kind);
  const Status status = engine_.stream_begin(kind, m.rate_mhz, u8(m.axes), u8(m.label));
  if (status != Status::ok) return status;
  // A frame too long for any message: this firmware needs a larger KILOTUNE_MAX_FRAME.
  const uint32_t frame_bytes = engine_.frame_bytes();
  if (frame_bytes == 0 || frame_bytes > kChunkBytes) return Status::unavailable;
  stream_ = u16(m.stream);
  stream_next_ = 0;
  return answer(cbor_encode_stream_begin_answer, frame_bytes);
}

Status Session::on_samples(const samples_request& m) {
  if (stream_ == 0 || m.stream != stream_) {
    detail_ = stream_;
    return Status::stale_stream;
  }
  const Bytes data = to_bytes(m.data);
  if (data.size % engine_.frame_bytes() != 0) return Status::bad_argument;
  // A piece with another offset is not accepted: the host sees that in `next`, and continues there.
  if (m.offset == stream_next_ && data.size != 0) {
    if (engine_.phase() == Phase::learn || engine_.life().on != 0) ++generation_;
    const Status status = engine_.stream_push(data.data, data.size);
    if (status != Status::ok) return status;
    stream_next_ += data.size;
  }
  uint8_t packed[Engine::kResultRing * kWireResultBytes];
  samples_answer a{};
  a.next = stream_next_;
  a.credit = board_.receive_bytes;
  a.results = to_zcbor(packed, pack_results(m.results_from, packed, a.results_first));
  return answer(cbor_encode_samples_answer, a);
}

Status Session::on_stream_end(const uint32_t& stream) {
  if (stream_ == 0 || stream != stream_) {
    detail_ = stream_;
    return Status::stale_stream;
  }
  stream_ = 0;
  if (engine_.life().on != 0) ++generation_;  // a record ends
  engine_.stream_gap();                       // what comes next is another record
  begin_phase();  // now, so that whoever asks next sees it, however busy the line is
  stream_end_answer a{};
  a.total_bytes = stream_next_;
  a.windows = engine_.results_end();
  return answer(cbor_encode_stream_end_answer, a);
}

Status Session::on_results(const uint32_t& from) {
  if (held_) hold_engine();
  uint8_t packed[Engine::kResultRing * kWireResultBytes];
  results_answer a{};
  a.results = to_zcbor(packed, pack_results(from, packed, a.results_first));
  a.results_end = engine_.results_end();
  return answer(cbor_encode_results_answer, a);
}

// Writes results from window `from` on, or from the oldest one in the ring; returns the bytes.
uint32_t Session::pack_results(uint32_t from, uint8_t* out, uint32_t& first) const {
  const uint32_t end = engine_.results_end();
  uint32_t index = from < end ? from : end;
  if (end - index > Engine::kResultRing) index = end - Engine::kResultRing;
  WindowResult result;
  while (index < end && !engine_.result(index, result)) ++index;
  first = index;
  uint8_t* p = out;
  for (; index < end && engine_.result(index, result); ++index, p += kWireResultBytes) {
    store_u16(p, static_cast<uint16_t>(result.score));
    p[2] = result.refused;
    p[3] = result.flags;
    p[4] = result.category;
    p[5] = 0;
  }
  return static_cast<uint32_t>(p - out);
}

}  // namespace kilotune
