// Recognises messages from holders of the device's key: challenge, session key, tags. Bytes and
// their order: docs/SPEC.md, section 3.5.
#ifndef KILOTUNE_RUNTIME_LINK_AUTH_H_
#define KILOTUNE_RUNTIME_LINK_AUTH_H_

#include <cstdint>

#include "kernel/bytes.h"
#include "kernel/status.h"
#include "runtime/keys/blake2s.h"
#include "runtime/keys/key_store.h"
#include "runtime/link/wire.h"

namespace kilotune {

class Auth {
 public:
  // `keys` null: the device cannot be locked. Both must stay; `now_ms` is the time of the start.
  Auth(KeyStore* keys, const Bytes& unique_id, uint32_t now_ms)
      : keys_(keys), unique_id_(unique_id), since_ms_(now_ms) {}
  ~Auth() { forget(); }
  Auth(const Auth&) = delete;
  Auth& operator=(const Auth&) = delete;

  [[nodiscard]] Lock lock() const { return keys_ == nullptr ? Lock::none : keys_->lock(); }
  // A message of this session had a right tag: from then on, only such messages are accepted.
  [[nodiscard]] bool confirmed() const { return stage_ == Stage::confirmed; }

  // Starts a new session: what was agreed in the one before is gone.
  void forget();
  // A fresh challenge, and the key that this session's tags are made with. slowed: not before
  // `wait_ms` have passed. One flash entry for the first one of each run of the device.
  [[nodiscard]] Status challenge(const uint8_t* nonce, uint32_t now_ms, uint8_t* out);
  [[nodiscard]] uint32_t wait_ms(uint32_t now_ms) const;

  // A request of `n` bytes, header included, with its tag behind it. A wrong one ends the challenge
  // and is counted in flash, unless the session is confirmed: then it is only refused.
  [[nodiscard]] Status check(uint32_t counter, const uint8_t* frame, uint32_t n, uint32_t now_ms);
  // Puts the tag of an answer behind its `n` bytes.
  void sign(uint32_t counter, uint8_t* frame, uint32_t n) const;

  // Sets a new key. `counter` not null: it is encrypted, from a tagged message with this count.
  // Lock::none removes the key.
  [[nodiscard]] Status set_key(Lock lock, const uint8_t* key, const uint32_t* counter);
  // Identifies the key without revealing it; returns the bytes written: kKeyIdBytes, or 0 without.
  [[nodiscard]] uint32_t key_id(uint8_t* id) const;

  // The device's key itself; null: none. For a hash that `begin_adapter_tag` has begun.
  [[nodiscard]] const uint8_t* key() const { return keys_ == nullptr ? nullptr : keys_->key(); }
  void begin_adapter_tag(Blake2s& hash) const;

 private:
  enum class Stage : uint8_t { none, challenged, confirmed };
  void add_id(Blake2s& hash) const;
  void tag(uint8_t what, uint32_t counter, const uint8_t* frame, uint32_t n, uint8_t* out) const;

  KeyStore* keys_;
  Bytes unique_id_;
  uint32_t since_ms_;        // of the last wrong try, or of the start
  uint32_t challenges_ = 0;  // given in this run
  bool counted_ = false;     // this run has its entry in flash
  Stage stage_ = Stage::none;
  uint8_t session_key_[Blake2s::kMaxDigestBytes] = {};
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LINK_AUTH_H_
