// Carves one block of RAM into regions, with gaps between them where the address sanitizer watches:
// what is written behind a region is found as it would be behind an allocation of its own. Without
// the sanitizer, regions touch, and gaps take neither bytes nor instructions.
#ifndef KILOTUNE_KERNEL_POOL_H_
#define KILOTUNE_KERNEL_POOL_H_

#include <cstdint>

#include "kernel/bytes.h"

#ifdef __has_feature  // clang
#if __has_feature(address_sanitizer)
#define KILOTUNE_HAS_GAPS
#endif
#endif
#ifdef __SANITIZE_ADDRESS__  // gcc
#define KILOTUNE_HAS_GAPS
#endif
#ifdef KILOTUNE_HAS_GAPS
#include <sanitizer/asan_interface.h>
#endif

namespace kilotune {

#ifdef KILOTUNE_HAS_GAPS
constexpr uint32_t kGapBytes = 64;
inline void forbid(const void* from, uint32_t bytes) { ASAN_POISON_MEMORY_REGION(from, bytes); }
inline void allow(const void* from, uint32_t bytes) { ASAN_UNPOISON_MEMORY_REGION(from, bytes); }
#else
constexpr uint32_t kGapBytes = 0;
inline void forbid(const void*, uint32_t) {}
inline void allow(const void*, uint32_t) {}
#endif

class Pool {
 public:
  // Regions begin at multiples of 8 where `block` does.
  explicit Pool(const Memory& block) : left_(block) { forbid(left_.data, left_.size); }

  // What a region takes of a block.
  [[nodiscard]] static constexpr uint32_t room(uint32_t bytes) {
    return bytes == 0 ? 0 : ((bytes + 7) & ~7u) + kGapBytes;
  }
  // The next region; null where it does not fit any more. Called for one region after the other:
  // small before fast.
  [[nodiscard, gnu::noinline]] uint8_t* take(uint32_t bytes) {
    const uint32_t taken = room(bytes);
    if (taken < bytes || taken > left_.size) return nullptr;
    uint8_t* const region = left_.data;
    allow(region, bytes);
    left_ = {region + taken, left_.size - taken};
    return region;
  }

 private:
  Memory left_;
};

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_POOL_H_
