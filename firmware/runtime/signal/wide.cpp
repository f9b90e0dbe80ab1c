// Wide products on a core that multiplies 32 bits to 32: in functions, as the registers do not last
// for the code around them.
#include "runtime/signal/wide.h"

#ifdef __ARM_ARCH_6M__

namespace kilotune {
namespace {

// No part overflows: |a / 2^16| <= 2^15, low halves are below 2^16, and so is what is carried.
[[gnu::always_inline]] inline int64_t product(int32_t a, int32_t b) {
  const int32_t a_high = a >> 16, b_high = b >> 16;
  const uint32_t a_low = static_cast<uint16_t>(a), b_low = static_cast<uint16_t>(b);
  const uint32_t low = a_low * b_low;
  const int32_t first = a_high * static_cast<int32_t>(b_low) + static_cast<int32_t>(low >> 16);
  const int32_t second = static_cast<int32_t>(a_low) * b_high + (first & 0xFFFF);
  const int32_t high = a_high * b_high + (first >> 16) + (second >> 16);
  const uint32_t rest = static_cast<uint32_t>(second) << 16 | static_cast<uint16_t>(low);
  return static_cast<int64_t>(static_cast<uint64_t>(static_cast<uint32_t>(high)) << 32 | rest);
}

}  // namespace

int32_t high_product(int32_t a, int32_t b) { return static_cast<int32_t>(product(a, b) >> 32); }

int32_t half_dot(int32_t a, int32_t b, int32_t c, int32_t d) {
  return static_cast<int32_t>((product(a, b) + product(c, d)) >> 32);
}

// A square has two equal middle products.
uint64_t wide_square(int32_t a) {
  const uint32_t size = static_cast<uint32_t>(a < 0 ? -a : a);  // up to 2^31 - 1
  const uint32_t low = size & 0xFFFFu, high = size >> 16;
  const uint64_t middle = low * high;
  return (uint64_t{high * high} << 32) + (middle << 17) + low * low;
}

uint64_t weighed(uint64_t value, uint32_t factor) {
  const uint32_t low = static_cast<uint32_t>(value), high = static_cast<uint32_t>(value >> 32);
  const uint64_t middle = (low >> 16) * factor;
  return (uint64_t{high * factor} << 32) + (middle << 16) + (low & 0xFFFFu) * factor;
}

}  // namespace kilotune

#endif
