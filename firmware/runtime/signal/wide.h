// Products of 32-bit numbers in 64 bits. On a core without such a multiply (Cortex-M0) each is made
// of four 16-bit ones in wide.cpp; its library would take three times as long. Same bits either
// way.
#ifndef KILOTUNE_RUNTIME_SIGNAL_WIDE_H_
#define KILOTUNE_RUNTIME_SIGNAL_WIDE_H_

#include <cstdint>

namespace kilotune {

#ifdef __ARM_ARCH_6M__

int32_t high_product(int32_t a, int32_t b);
int32_t half_dot(int32_t a, int32_t b, int32_t c, int32_t d);
uint64_t wide_square(int32_t a);
uint64_t weighed(uint64_t value, uint32_t factor);

#else

// a * b / 2^32, rounded down.
inline int32_t high_product(int32_t a, int32_t b) {
  return static_cast<int32_t>((static_cast<int64_t>(a) * b) >> 32);
}

// (a * b + c * d) / 2^32: half the sum of two products by Q31 factors; below 2^61 inside, rounded
// down.
inline int32_t half_dot(int32_t a, int32_t b, int32_t c, int32_t d) {
  return static_cast<int32_t>((static_cast<int64_t>(a) * b + static_cast<int64_t>(c) * d) >> 32);
}

inline uint64_t wide_square(int32_t a) {
  return static_cast<uint64_t>(static_cast<int64_t>(a) * a);
}

// value * factor for value < 2^46, factor < 2^16.
inline uint64_t weighed(uint64_t value, uint32_t factor) { return value * factor; }

#endif

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_SIGNAL_WIDE_H_
