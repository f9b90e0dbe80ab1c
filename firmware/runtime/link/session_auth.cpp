// Requests about the key: who may change the device, and the tag of its adapter.
#include <cstring>

#include "runtime/link/codec.h"
#include "runtime/link/session.h"

namespace kilotune {

Status Session::on_challenge(const zcbor_string& nonce) {
  const uint32_t now_ms = board_.millis(board_.context);
  uint8_t challenge[kChallengeBytes];
  const Status status = auth_.challenge(nonce.value, now_ms, challenge);
  if (status == Status::slowed) detail_ = auth_.wait_ms(now_ms);
  if (status != Status::ok) return status;
  counter_ = static_cast<uint16_t>(counter_);  // from here on, count like the host
  return answer(cbor_encode_challenge_answer, to_zcbor(challenge, sizeof challenge));
}

Status Session::on_key(const key_request& m) {
  if (m.lock > static_cast<uint32_t>(Lock::all)) return Status::bad_argument;
  const auto lock = static_cast<Lock>(m.lock);
  if (m.key.len != (lock == Lock::none ? 0 : KeyStore::kKeyBytes)) return Status::bad_argument;
  if (lock == Lock::none && auth_.lock() == Lock::none) return Status::no_key;
  const Status status = auth_.set_key(lock, m.key.value, tagged_ ? &counter_ : nullptr);
  wipe(rx_ + kWireHeaderBytes, sizeof rx_ - kWireHeaderBytes);  // the key came in it
  if (status != Status::ok) return status;
  uint8_t id[kKeyIdBytes];
  return answer(cbor_encode_key_answer, to_zcbor(id, auth_.key_id(id)));
}

Status Session::on_adapter_tag(const None&) {
  if (auth_.key() == nullptr) return Status::no_key;
  if (engine_.phase() == Phase::train) return Status::busy;
  Blake2s hash(kTagBytes, auth_.key(), KeyStore::kKeyBytes);
  auth_.begin_adapter_tag(hash);
  hash.add_u32(engine_.windows_learned());
  hash.add_u32(engine_.steps_trained());
  hash.add(engine_.model().image_hash(), kHashBytes);
  hash.add(engine_.adapter(), engine_.adapter_bytes());
  uint8_t tag[kTagBytes];
  hash.finish(tag);
  adapter_tag_answer a{};
  a.windows = engine_.windows_learned();
  a.steps = engine_.steps_trained();
  a.generation = generation_;
  a.tag = to_zcbor(tag, sizeof tag);
  return answer(cbor_encode_adapter_tag_answer, a);
}

}  // namespace kilotune
