// Requests about ready model inputs: infer, train, bench.
#include <cstring>

#include "runtime/link/codec.h"
#include "runtime/link/session.h"

namespace kilotune {
namespace {
constexpr uint32_t kMaxBenchRuns = 1000;
enum BenchWhat : uint8_t { kBenchInference = 0, kBenchStep = 1 };
}  // namespace

Status Session::on_input_write(const Bytes& in) {
  input_write_request m;
  if (decode(cbor_decode_input_write_request, in, m) != Status::ok) return Status::bad_message;
  const Bytes data = to_bytes(m.data);
  const uint32_t size = engine_.input_bytes();
  if (m.offset > size || data.size > size - m.offset) return Status::bad_argument;
  if (engine_.phase() == Phase::train) return Status::busy;
  if (data.size != 0) std::memcpy(engine_.input() + m.offset, data.data, data.size);
  return Status::ok;
}

// A whole input in the message, or none: what was written before is used.
Status Session::take_input(const Bytes& input) {
  if (engine_.phase() == Phase::train) return Status::busy;
  if (input.size == 0) return Status::ok;
  if (input.size != engine_.input_bytes()) {
    detail_ = engine_.input_bytes();
    return Status::bad_argument;
  }
  std::memcpy(engine_.input(), input.data, input.size);
  return Status::ok;
}

Status Session::on_infer(const Bytes& in) {
  zcbor_string input;
  if (decode(cbor_decode_infer_request, in, input) != Status::ok) return Status::bad_message;
  Status status = take_input(to_bytes(input));
  if (status == Status::ok) status = engine_.infer();
  return status == Status::ok ? answer_output(0) : status;
}

Status Session::on_output_read(const Bytes& in) {
  uint32_t off = 0;
  if (decode(cbor_decode_output_read_request, in, off) != Status::ok) return Status::bad_message;
  return answer_output(off);
}

Status Session::answer_output(uint32_t off) {
  const uint32_t size = engine_.output_bytes();
  if (off > size) return Status::bad_argument;
  const uint32_t left = size - off;
  const output_answer a{size, off,
                        to_zcbor(engine_.output() + off, left < kChunkBytes ? left : kChunkBytes)};
  return answer(cbor_encode_output_answer, a);
}

Status Session::on_train_begin(const Bytes& in) {
  train_config m;
  if (decode(cbor_decode_train_begin_request, in, m) != Status::ok) return Status::bad_message;
  TrainConfig config;
  const Status status = to_config(m, config);
  if (status != Status::ok) return status;
  take_over();
  return engine_.train_begin(config);
}

Status Session::on_train_step(const Bytes& in) {
  train_step_request m;
  if (decode(cbor_decode_train_step_request, in, m) != Status::ok) return Status::bad_message;
  if (m.step > engine_.train_steps()) {
    detail_ = engine_.train_steps();
    return Status::out_of_order;
  }
  if (m.step == engine_.train_steps()) {
    const Bytes target = to_bytes(m.target);
    if (target.size != 0 && target.size != engine_.output_bytes()) {
      detail_ = engine_.output_bytes();
      return Status::bad_argument;
    }
    Status status = take_input(to_bytes(m.input));
    if (status != Status::ok) return status;
    const auto* values = reinterpret_cast<const int8_t*>(target.data);
    ++generation_;
    status =
        engine_.train_step(static_cast<uint16_t>(m.label), target.size != 0 ? values : nullptr);
    if (status != Status::ok) return status;
  }
  return answer(cbor_encode_train_step_answer, engine_.train_steps());
}

uint64_t Session::instructions() const {
  return board_.instructions != nullptr ? board_.instructions(board_.context) : 0;
}

Status Session::on_bench(const Bytes& in) {
  bench_request m;
  if (decode(cbor_decode_bench_request, in, m) != Status::ok) return Status::bad_message;
  if (m.what > kBenchStep || m.count == 0 || m.count > kMaxBenchRuns) return Status::bad_argument;
  if (m.what == kBenchStep) {
    take_over();
    ++generation_;
  }
  // A regression is stepped towards what it gives by itself: the work is the same for any target.
  const int8_t* target = engine_.output();
  const uint32_t began_ms = board_.millis(board_.context);
  const uint64_t began = instructions();
  for (uint32_t i = 0; i < m.count; ++i) {
    const Status status = m.what == kBenchInference
                              ? engine_.infer()
                              : engine_.train_step(static_cast<uint16_t>(m.label), target);
    if (status != Status::ok) return status;
  }
  const bench_answer a{instructions() - began, board_.millis(board_.context) - began_ms};
  return answer(cbor_encode_bench_answer, a);
}

}  // namespace kilotune
