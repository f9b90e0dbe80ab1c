// BLAKE2s (RFC 7693) with and without a key, written for few bytes of code.
//
// The running time depends on lengths only. Not for interrupts.
#ifndef KILOTUNE_RUNTIME_KEYS_BLAKE2S_H_
#define KILOTUNE_RUNTIME_KEYS_BLAKE2S_H_

#include <cstdint>

namespace kilotune {

class Blake2s {
 public:
  static constexpr uint32_t kMaxDigestBytes = 32, kMaxKeyBytes = 32;

  // `digest_bytes` 1 to 32; `key_bytes` 0 to 32, 0: no key.
  explicit Blake2s(uint32_t digest_bytes, const uint8_t* key = nullptr, uint32_t key_bytes = 0);
  ~Blake2s();  // leaves nothing of the key in memory
  Blake2s(const Blake2s&) = delete;
  Blake2s& operator=(const Blake2s&) = delete;

  // At most 2^32 - 1 bytes in total, including a key's block of 64.
  void add(const void* data, uint32_t n);
  void add_byte(uint8_t value) { add(&value, 1); }
  void add_u32(uint32_t value);  // little-endian
  // Once, at the end.
  void finish(uint8_t* digest);

 private:
  static constexpr uint32_t kBlockBytes = 64;
  void compress(bool last);

  uint32_t h_[8];
  uint32_t taken_ = 0;  // bytes compressed before `block_`
  uint32_t fill_ = 0;   // bytes in `block_`
  uint32_t digest_bytes_;
  uint8_t block_[kBlockBytes];
};

// The time does not reveal where they differ.
[[nodiscard]] bool same_bytes(const uint8_t* a, const uint8_t* b, uint32_t n);

// Writes zeros that the compiler must not optimise away.
void wipe(void* memory, uint32_t n);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_KEYS_BLAKE2S_H_
