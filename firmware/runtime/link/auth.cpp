// Challenge, session key and tags: keyed BLAKE2s over a byte for the purpose, then the fields.
#include "runtime/link/auth.h"

#include <cstring>

namespace kilotune {
namespace {

// The purpose of a digest, so that none can be mistaken for another.
enum Purpose : uint8_t {
  kForChallenge = 1,
  kForSession = 2,
  kForRequest = 3,
  kForAnswer = 4,
  kForKeyId = 5,
  kForNewKey = 6,
  kForAdapter = 7,
};

constexpr uint32_t kFreeTries = 10;
constexpr uint32_t kFirstWaitMs = 1000, kDoublings = 6;  // so 64 s at most

}  // namespace

void Auth::add_id(Blake2s& hash) const {
  hash.add_byte(static_cast<uint8_t>(unique_id_.size));
  hash.add(unique_id_.data, unique_id_.size);
}

void Auth::forget() {
  stage_ = Stage::none;
  wipe(session_key_, sizeof session_key_);
}

// Doubles with every try; a restart starts the wait anew and forgets no try.
uint32_t Auth::wait_ms(uint32_t now_ms) const {
  const uint32_t tries = keys_->attempts();
  if (tries < kFreeTries) return 0;
  const uint32_t extra = tries - kFreeTries;
  const uint32_t wait = kFirstWaitMs << (extra < kDoublings ? extra : kDoublings);
  const uint32_t passed = now_ms - since_ms_;
  return passed < wait ? wait - passed : 0;
}

Status Auth::challenge(const uint8_t* nonce, uint32_t now_ms, uint8_t* out) {
  if (key() == nullptr) return Status::no_key;
  if (wait_ms(now_ms) != 0) return Status::slowed;
  forget();
  // Before the first challenge is given, so that the next run cannot give it again.
  if (!counted_) {
    const Status status = keys_->count_attempt();
    if (status != Status::ok) return status;
    counted_ = true;
  }
  Blake2s fresh(kChallengeBytes, key(), kKeyBytes);
  fresh.add_byte(kForChallenge);
  fresh.add_u32(keys_->count());
  fresh.add_u32(++challenges_);
  add_id(fresh);
  fresh.finish(out);

  Blake2s agreed(sizeof session_key_, key(), kKeyBytes);
  agreed.add_byte(kForSession);
  agreed.add(out, kChallengeBytes);
  agreed.add(nonce, kNonceBytes);
  add_id(agreed);
  agreed.finish(session_key_);
  stage_ = Stage::challenged;
  return Status::ok;
}

void Auth::tag(uint8_t what, uint32_t counter, const uint8_t* frame, uint32_t n,
               uint8_t* out) const {
  Blake2s hash(kTagBytes, session_key_, sizeof session_key_);
  hash.add_byte(what);
  hash.add_u32(counter);
  hash.add(frame, n);
  hash.finish(out);
}

Status Auth::check(uint32_t counter, const uint8_t* frame, uint32_t n, uint32_t now_ms) {
  if (stage_ == Stage::none) return Status::locked;
  uint8_t right[kTagBytes];
  tag(kForRequest, counter, frame, n, right);
  if (same_bytes(right, frame + n, kTagBytes)) {
    // If flash does not accept it, tries keep being counted; the key is right nevertheless.
    if (stage_ == Stage::challenged && keys_->attempts() != 0) {
      static_cast<void>(keys_->count_success());
    }
    stage_ = Stage::confirmed;
    return Status::ok;
  }
  if (stage_ == Stage::confirmed) return Status::wrong_key;
  forget();
  since_ms_ = now_ms;
  const Status status = keys_->count_attempt();
  return status == Status::ok ? Status::wrong_key : status;
}

void Auth::sign(uint32_t counter, uint8_t* frame, uint32_t n) const {
  tag(kForAnswer, counter, frame, n, frame + n);
}

Status Auth::set_key(Lock lock, const uint8_t* given, const uint32_t* counter) {
  if (keys_ == nullptr) return Status::unavailable;
  if (lock == Lock::none) return keys_->set(lock, nullptr);
  uint8_t fresh[kKeyBytes];
  std::memcpy(fresh, given, kKeyBytes);
  if (counter != nullptr) {
    uint8_t cover[kKeyBytes];
    Blake2s hash(kKeyBytes, session_key_, sizeof session_key_);
    hash.add_byte(kForNewKey);
    hash.add_u32(*counter);
    hash.finish(cover);
    for (uint32_t i = 0; i < kKeyBytes; ++i) fresh[i] = static_cast<uint8_t>(fresh[i] ^ cover[i]);
    wipe(cover, sizeof cover);
  }
  const Status status = keys_->set(lock, fresh);
  wipe(fresh, sizeof fresh);
  return status;
}

uint32_t Auth::key_id(uint8_t* id) const {
  if (key() == nullptr) return 0;
  Blake2s hash(kKeyIdBytes, key(), kKeyBytes);
  hash.add_byte(kForKeyId);
  add_id(hash);
  hash.finish(id);
  return kKeyIdBytes;
}

void Auth::begin_adapter_tag(Blake2s& hash) const {
  hash.add_byte(kForAdapter);
  add_id(hash);
}

}  // namespace kilotune
