// Gradients of one position with the instructions of Cortex-M4, M7 and M33.
#include "kernel/ops/mantissas.h"

#if KILOTUNE_MANTISSAS_DSP

#include "kernel/ops/dsp.h"

namespace kilotune {
namespace {

uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }
uint32_t magnitude(int32_t v) { return static_cast<uint32_t>(v ^ (v >> 31)); }

// Four values and the mask's bits for them, the lowest `bit`. Of the magnitudes only the high
// halves are compared, two at a time: `top` holds the largest of each.
#define KILOTUNE_MASK(value, bit) \
  "sbfx %[t], %[bits], #" bit     \
  ", #1\n"                        \
  "and " value ", " value ", %[t]\n"
#define KILOTUNE_LARGEST(a, b) \
  "pkhtb %[t], " a ", " b      \
  ", asr #16\n"                \
  "usub16 " a                  \
  ", %[t], %[top]\n"           \
  "sel %[top], %[t], %[top]\n"
#define KILOTUNE_MAGNITUDE(value) "eor " value ", " value ", " value ", asr #31\n"
#define KILOTUNE_MASK_FOUR(b0, b1, b2, b3)                                                 \
  "ldm %[v], {r4, r5, r6, r8}\n" KILOTUNE_MASK("r4", b0) KILOTUNE_MASK("r5", b1)           \
      KILOTUNE_MASK("r6", b2)                                                              \
          KILOTUNE_MASK("r8", b3) "stm %[v]!, {r4, r5, r6, r8}\n" KILOTUNE_MAGNITUDE("r4") \
              KILOTUNE_MAGNITUDE("r5") KILOTUNE_MAGNITUDE("r6") KILOTUNE_MAGNITUDE("r8")   \
                  KILOTUNE_LARGEST("r4", "r5") KILOTUNE_LARGEST("r6", "r8")
#define KILOTUNE_MASK_EIGHT \
  KILOTUNE_MASK_FOUR("0", "1", "2", "3") KILOTUNE_MASK_FOUR("4", "5", "6", "7")

// Four values: nine instructions.
#define KILOTUNE_ROUND_FOUR       \
  "ldm %[v]!, {r4, r5, r6, r8}\n" \
  "smmulr r4, r4, %[f]\n"         \
  "smmulr r5, r5, %[f]\n"         \
  "smmulr r6, r6, %[f]\n"         \
  "smmulr r8, r8, %[f]\n"         \
  "pkhbt r4, r4, r5, lsl #16\n"   \
  "pkhbt r6, r6, r8, lsl #16\n"   \
  "str r4, [%[m]], #4\n"          \
  "str r6, [%[m]], #4\n"

void store_pair(int16_t* p, int16x2_t pair) { std::memcpy(p, &pair, sizeof pair); }

}  // namespace

uint32_t mask_values(int32_t* values, const uint8_t* mask, uint32_t n) {
  int32_t* v = values;
  uint32_t top = 0, bits = 0;
  for (const int32_t* end = values + (n & ~7u); v != end;) {
    bits = mask != nullptr ? *mask++ : 0xFFu;
    uint32_t t, left;
    __asm__ volatile(
        KILOTUNE_MASK_EIGHT
        : [v] "+r"(v), [top] "+r"(top), [t] "=&r"(t), [bits] "+r"(bits), [left] "=&r"(left)
        :
        : "r4", "r5", "r6", "r8", "cc", "memory");
  }
  top = larger(top & 0xFFFFu, top >> 16);
  if ((n & 7u) != 0) bits = mask != nullptr ? *mask : 0xFFu;
  for (uint32_t left = n & 7u; left != 0; --left, bits >>= 1, ++v) {
    *v &= -static_cast<int32_t>(bits & 1u);
    top = larger(top, magnitude(*v) >> 16);
  }
  // If the high half is not all ones from its first one on, it says all that matters: how many bits
  // the largest has, and that rounding does not carry into one more.
  if ((top & (top + 1)) != 0) return top << 16;
  uint32_t largest = 0;
  for (v = values; n != 0; --n) largest = larger(largest, magnitude(*v++));
  return largest;
}

void round_values(const int32_t* values, int shift, uint32_t n, int16_t* mantissa) {
  const int32_t factor = static_cast<int32_t>(1u << (32 - shift));
  if (n >= 4) {
    uint32_t fours = n >> 2;
    __asm__ volatile("1:\n" KILOTUNE_ROUND_FOUR
                     "subs %[fours], %[fours], #1\n"
                     "bne 1b\n"
                     : [v] "+r"(values), [m] "+r"(mantissa), [fours] "+r"(fours)
                     : [f] "r"(factor)
                     : "r4", "r5", "r6", "r8", "cc", "memory");
  }
  for (n &= 3u; n != 0; --n)
    *mantissa++ = static_cast<int16_t>(high_multiply_rounded(*values++, factor));
}

void align_mantissas(int16_t* m, uint32_t n, int d) {
  // The lower half of a word is a fraction of its upper one, below what rounding can see.
  const int32_t factor = 1 << (16 - d);
  for (const int16_t* end = m + (n & ~1u); m != end; m += 2) {
    const uint32_t pair = word(m);
    const int32_t low = high_multiply_rounded(static_cast<int32_t>(pair << 16), factor);
    const int32_t high = high_multiply_rounded(static_cast<int32_t>(pair), factor);
    store_pair(m, low_halves(low, high));
  }
  if ((n & 1u) != 0) *m = static_cast<int16_t>((*m + (1 << (d - 1))) >> d);
}

void align_mantissas(int16_t* m, const uint16_t* factors, uint32_t n, int d) {
  const int shift = d + 15;
  const int32_t half = 1 << (shift - 1);
  // 2^15 does not fit int16, its negative does; -(x + 1) is ~x, before and after a shift.
  const auto pair = [=](int16x2_t a, int16x2_t f) {
    const int16x2_t r = __ssub16(0, f);
    const int32_t low = __smlabb(a, r, -half - 1), high = __smlatt(a, r, -half - 1);
    return ~low_halves(low >> shift, high >> shift);
  };
  const auto load = [](const void* p) { return static_cast<int16x2_t>(word(p)); };
  for (const int16_t* end = m + (n & ~3u); m != end; m += 4, factors += 4) {
    const int16x2_t a = load(m), b = load(m + 2);
    const int16x2_t f = load(factors), g = load(factors + 2);
    store_pair(m, pair(a, f));
    store_pair(m + 2, pair(b, g));
  }
  for (n &= 3u; n != 0; --n, ++m) *m = static_cast<int16_t>((*m * *factors++ + half) >> shift);
}

}  // namespace kilotune

#endif  // KILOTUNE_MANTISSAS_DSP
