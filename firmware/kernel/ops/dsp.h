// The DSP instructions of Cortex-M4, M7 and M33 that kernels use, by name.
#ifndef KILOTUNE_KERNEL_OPS_DSP_H_
#define KILOTUNE_KERNEL_OPS_DSP_H_

#include <arm_acle.h>

#include <cstdint>
#include <cstring>

namespace kilotune {

// Unaligned loads are one instruction on every core that has these multiplies.
inline uint32_t word(const void* p) {
  uint32_t v = 0;
  std::memcpy(&v, p, sizeof v);
  return v;
}
// Bytes 0 and 2, or 1 and 3, sign-extended to two halves.
inline int16x2_t even_bytes(uint32_t v) { return __sxtb16(static_cast<int8x4_t>(v)); }
inline int16x2_t odd_bytes(uint32_t v) {
  int16x2_t r;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(r) : "r"(v));
  return r;
}
// {low half of a, low half of b} and {high half of a, high half of b}.
inline int16x2_t low_halves(int16x2_t a, int16x2_t b) {
  int16x2_t r;
  __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
inline int16x2_t high_halves(int16x2_t a, int16x2_t b) {
  int16x2_t r;
  __asm__("pkhtb %0, %2, %1, asr #16" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
// (a * b + 2^31) >> 32
inline int32_t high_multiply_rounded(int32_t a, int32_t b) {
  int32_t r;
  __asm__("smmulr %0, %1, %2" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
// 2 v, saturated. An accumulator of 2^30 and more times a multiplier of 2^30 and more, shifted
// right by kShortShift at most, lies beyond every int8 whether it is saturated here or not.
inline int32_t twice(int32_t v) {
  int32_t r;
  __asm__("qadd %0, %1, %1" : "=r"(r) : "r"(v));
  return r;
}

// A loop of %[left] turns. Unless the compiler is asked for small code, it has two turns per branch
// and begins an odd number of turns with the second.
#ifdef __OPTIMIZE_SIZE__
#define KILOTUNE_TURNS(turn)    \
  "1:\n" turn                   \
  "subs %[left], %[left], #1\n" \
  "bne 1b\n"
#else
#define KILOTUNE_TURNS(turn)    \
  "tst %[left], #1\n"           \
  "add %[left], %[left], #1\n"  \
  "lsr %[left], %[left], #1\n"  \
  "bne 2f\n"                    \
  "1:\n" turn "2:\n" turn       \
  "subs %[left], %[left], #1\n" \
  "bne 1b\n"
#endif

// Shifts by the lowest byte of `n`, whatever lies above it.
inline int32_t shift_left(int32_t v, uint32_t n) {
  int32_t r;
  __asm__("lsl %0, %1, %2" : "=r"(r) : "r"(v), "r"(n));
  return r;
}
inline int32_t shift_right(int32_t v, uint32_t n) {
  int32_t r;
  __asm__("asr %0, %1, %2" : "=r"(r) : "r"(v), "r"(n));
  return r;
}

// Which of four packed outputs lie strictly between the ends of an activation.
class PassTest {
 public:
  PassTest(int32_t low, int32_t high) {
    const int32_t span = high - low - 2;  // q passes where q - from, as uint8, is at most this
    from_ = (static_cast<uint32_t>(low + 1) & 0xFFu) * 0x01010101u;
    span_ = static_cast<uint32_t>(span < 0 ? 0 : span) * 0x01010101u;
    bits_ = span < 0 ? 0u : 0x08040201u;
  }
  // Bit k: output k passes.
  [[nodiscard]] uint32_t passes(uint32_t packed) const {
    uint32_t r;
    __asm__(
        "usub8 %[r], %[q], %[from]\n"
        "usub8 %[r], %[span], %[r]\n"
        "sel %[r], %[bits], %[zero]\n"
        "usad8 %[r], %[r], %[zero]\n"
        : [r] "=&r"(r)
        : [q] "r"(packed), [from] "r"(from_), [span] "r"(span_), [bits] "r"(bits_), [zero] "r"(0)
        : "cc");
    return r;
  }

 private:
  uint32_t from_, span_, bits_;
};

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_DSP_H_
