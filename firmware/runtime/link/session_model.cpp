// Requests that replace the model while the device runs: all or nothing, whatever happens.
#include <cstring>

#include "runtime/keys/blake2s.h"
#include "runtime/link/codec.h"
#include "runtime/link/session.h"

namespace kilotune {

Status Session::on_model_begin(const model_begin_request& m) {
  if (board_.models == nullptr) return Status::unavailable;
  ModelStore& store = *board_.models->store;
  const Status status = store.begin(m.image_hash.value, m.total, m.crc);
  if (status == Status::no_room) detail_ = store.capacity();
  return status == Status::ok ? answer(cbor_encode_push_answer, store.staged()) : status;
}

Status Session::on_model_piece(const push_request& m) {
  if (board_.models == nullptr) return Status::unavailable;
  ModelStore& store = *board_.models->store;
  const Bytes data = to_bytes(m.data);
  const Status status = store.append(m.offset, data.data, data.size);
  return answer_piece(status, store.staged());
}

Status Session::on_model_end(const zcbor_string& digest) {
  if (board_.models == nullptr) return Status::unavailable;
  ModelStore& store = *board_.models->store;
  Bytes image;
  Status status = store.staged_image(image);
  if (status == Status::truncated) detail_ = store.staged();
  if (status == Status::truncated || status == Status::wrong_state) return status;
  if (status == Status::ok) {
    uint8_t found[kHashBytes];
    Blake2s hash(sizeof found);
    hash.add(image.data, image.size);
    hash.finish(found);
    if (std::memcmp(found, digest.value, sizeof found) != 0) status = Status::bad_crc;
  }
  if (status == Status::ok) status = board_.models->check(image, detail_);
  if (status == Status::ok) status = store.commit();
  store.drop();
  return status == Status::ok ? start_model() : status;
}

Status Session::on_model_rollback(const None&) {
  if (board_.models == nullptr) return Status::unavailable;
  ModelStore& store = *board_.models->store;
  Bytes image;
  Status status = store.former(image);
  if (status == Status::ok) status = board_.models->check(image, detail_);
  if (status == Status::ok) status = store.rollback();
  return status == Status::ok ? start_model() : status;
}

// As after a restart: what was learned for the previous model, and not committed, is lost.
Status Session::start_model() {
  stream_ = 0;
  passes_ = 0;
  pushing_ = held_ = steered_ = alone_ = false;
  ++generation_;
  const Status status = board_.models->open();
  return status == Status::ok ? on_model(None{}) : status;
}

}  // namespace kilotune
