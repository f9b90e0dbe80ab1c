// Requests about ready model inputs: infer, train, bench.
#include <cstring>

#include "runtime/link/codec.h"
#include "runtime/link/session.h"

namespace kilotune {
namespace {
constexpr uint32_t kMaxBenchRuns = 1000;
}  // namespace

Status Session::on_input_write(const input_write_request& m) {
  const Bytes data = to_bytes(m.data);
  const uint32_t size = engine_.input_bytes();
  if (m.offset > size || data.size > size - m.offset) return Status::bad_argument;
  if (engine_.phase() == Phase::train) return Status::busy;
  if (data.size != 0) std::memcpy(engine_.input() + m.offset, data.data, data.size);
  return Status::ok;
}

// The message holds a whole input, or none: then what was written before is used.
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

Status Session::on_infer(const zcbor_string& input) {
  Status status = take_input(to_bytes(input));
  if (status == Status::ok) status = engine_.infer();
  return status == Status::ok ? answer_output(0) : status;
}

Status Session::on_output_read(const uint32_t& offset) { return answer_output(offset); }

Status Session::answer_output(uint32_t off) {
  const uint32_t size = engine_.output_bytes();
  if (off > size) return Status::bad_argument;
  const uint32_t left = size - off;
  output_answer a{};
  a.output_bytes = size;
  a.offset = off;
  a.output = to_zcbor(engine_.output() + off, left < kChunkBytes ? left : kChunkBytes);
  return answer(cbor_encode_output_answer, a);
}

Status Session::on_train_begin(const train_config& m) {
  TrainConfig config;
  const Status status = to_config(m, config);
  if (status != Status::ok) return status;
  take_over();
  return engine_.train_begin(config);
}

Status Session::on_train_step(const train_step_request& m) {
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

Status Session::on_bench(const bench_request& m) {
  if (m.what > static_cast<uint32_t>(BenchKind::step)) return Status::bad_argument;
  if (m.count == 0 || m.count > kMaxBenchRuns) return Status::bad_argument;
  const auto what = static_cast<BenchKind>(m.what);
  if (what == BenchKind::step) {
    take_over();
    ++generation_;
  }
  // For regression, the target is the model's own output: the work is the same for any target.
  const int8_t* target = engine_.output();
  const uint32_t began_ms = board_.millis(board_.context);
  const uint64_t began = instructions();
  for (uint32_t i = 0; i < m.count; ++i) {
    const Status status = what == BenchKind::inference
                              ? engine_.infer()
                              : engine_.train_step(static_cast<uint16_t>(m.label), target);
    if (status != Status::ok) return status;
    if (i + 1 < m.count && board_.alive != nullptr) board_.alive(board_.context);
  }
  bench_answer a{};
  a.instructions = instructions() - began;
  a.elapsed_ms = board_.millis(board_.context) - began_ms;
  return answer(cbor_encode_bench_answer, a);
}

}  // namespace kilotune
