// Requests about the adapter: checkpoints, pull and push.
#include <cstring>

#include "runtime/link/codec.h"
#include "runtime/link/session.h"

namespace kilotune {

Status Session::on_commit(const None&) { return commit(true); }
Status Session::on_commit_candidate(const None&) { return commit(false); }

Status Session::commit(bool stable) {
  pushing_ = false;  // flash has one staging place
  const Status status = engine_.commit(stable);
  if (status == Status::no_checkpoint_room) detail_ = engine_.checkpoint_room();
  return status == Status::ok ? answer_checkpoint() : status;
}

Status Session::on_mark_stable(const None&) {
  pushing_ = false;
  const Status status = engine_.mark_stable();
  return status == Status::ok ? answer_checkpoint() : status;
}

Status Session::on_rollback(const None&) {
  pushing_ = false;
  ++generation_;
  const Status status = engine_.rollback();
  return status == Status::ok ? answer_checkpoint() : status;
}

Status Session::on_restore(const None&) {
  ++generation_;
  const Status status = engine_.restore();
  return status == Status::ok ? answer_checkpoint() : status;
}

Status Session::on_pull(const pull_request& m) {
  if (engine_.phase() == Phase::train) return Status::busy;
  const uint32_t total = engine_.adapter_bytes();
  if (m.offset > total) return Status::bad_argument;
  if (crc_generation_ != generation_) {
    adapter_crc_ = crc32(engine_.adapter(), total);
    crc_generation_ = generation_;
  }
  uint32_t n = total - m.offset;
  if (n > m.length) n = m.length;
  if (n > kChunkBytes) n = kChunkBytes;
  pull_answer a{};
  a.offset = m.offset;
  a.total = total;
  a.crc = adapter_crc_;
  a.generation = generation_;
  a.data = to_zcbor(engine_.adapter() + m.offset, n);
  return answer(cbor_encode_pull_answer, a);
}

Status Session::on_push_begin(const push_begin_request& m) {
  // The same adapter again, perhaps in another session: continues where it stopped.
  const bool ours = std::memcmp(m.image_hash.value, engine_.model().image_hash(), kHashBytes) == 0;
  const bool same = m.total == engine_.adapter_bytes() && push_crc_ == m.crc;
  if (!ours || !pushing_ || !same) {
    pushing_ = false;
    const Status status =
        engine_.push_begin(m.image_hash.value, m.total, m.crc, m.windows, m.steps);
    if (status == Status::no_checkpoint_room) detail_ = engine_.checkpoint_room();
    if (status != Status::ok) return status;
    pushing_ = true;
    push_crc_ = m.crc;
  }
  return answer(cbor_encode_push_answer, engine_.pushed());
}

Status Session::on_push(const push_request& m) {
  if (!pushing_) return Status::wrong_state;
  const Bytes data = to_bytes(m.data);
  const Status status = engine_.push_append(m.offset, data.data, data.size);
  return answer_piece(status, engine_.pushed());
}

Status Session::answer_piece(Status status, uint32_t next) {
  if (status == Status::out_of_order) detail_ = next;
  return status == Status::ok ? answer(cbor_encode_push_answer, next) : status;
}

Status Session::on_push_end(const None&) {
  if (!pushing_) return Status::wrong_state;
  if (engine_.pushed() != engine_.adapter_bytes()) {
    detail_ = engine_.pushed();
    return Status::truncated;
  }
  pushing_ = false;
  ++generation_;
  const Status status = engine_.push_end();
  return status == Status::ok ? answer_checkpoint() : status;
}

}  // namespace kilotune
