// Seeded random bits for stochastic rounding and sampling: the same sequence on every core.
#ifndef KILOTUNE_KERNEL_RANDOM_H_
#define KILOTUNE_KERNEL_RANDOM_H_

#include <cstdint>

namespace kilotune {

// A linear congruential generator (Numerical Recipes' constants): two instructions per draw. Only
// high bits are used, whose period is long enough for rounding; not for cryptography.
class Random {
 public:
  // Streams of different (seed, step) start far apart: murmur3's 32-bit finaliser mixes them.
  explicit Random(uint32_t seed, uint32_t step = 0) {
    uint32_t h = seed ^ (step * 0x9E3779B9u);
    h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
    h = (h ^ (h >> 13)) * 0xC2B2AE35u;
    state_ = h ^ (h >> 16);
  }

  // Uniform in [0, 2^bits), bits in 1..32.
  uint32_t bits(int bits) { return next(32 - bits); }
  // Uniform in [0, 2^(32 - unused)), for loops that draw many of one width.
  uint32_t next(int unused) {
    state_ = state_ * 1664525u + 1013904223u;
    return state_ >> unused;
  }
  // Uniform in [0, n), n < 2^16; the bias of at most n / 2^32 is below what sampling can show.
  uint32_t below(uint32_t n) { return static_cast<uint32_t>((uint64_t{bits(32)} * n) >> 32); }

 private:
  uint32_t state_;
};

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_RANDOM_H_
