// Dense layers of trained weights with the dual 16-bit multiplies of Cortex-M4, M7 and M33: the
// same bits as the plain ones. A file of its own, as by-hand loops need every register of a
// function.
#include "kernel/ops/dense.h"

#ifdef __ARM_FEATURE_DSP

#include "kernel/ops/fours_dsp.h"

namespace kilotune {
namespace {

// Four rows of trained weights, `n` apart, times four inputs: 16 products in 34
// instructions. Inputs 0, 1 and 2, 3 become pairs once, as the weights lie in pairs.
#define KILOTUNE_TRAINED(sum, pair, row) \
  "ldr %[t], " row                       \
  "\n"                                   \
  "sxtb16 %[t], %[t], ror #8\n"          \
  "smlad %[" sum "], %[t], %[" pair "], %[" sum "]\n"
#define KILOTUNE_FOUR_TRAINED                                                                     \
  "ldr %[p], [%[x]], #4\n"                                                                        \
  "sxtb16 %[t], %[p]\n"                                                                           \
  "sxtb16 %[q], %[p], ror #8\n"                                                                   \
  "ssub16 %[t], %[t], %[zero]\n"                                                                  \
  "ssub16 %[q], %[q], %[zero]\n"                                                                  \
  "pkhbt %[p], %[t], %[q], lsl #16\n"                                                             \
  "pkhtb %[q], %[q], %[t], asr #16\n" KILOTUNE_TRAINED("b", "p", "[%[w], %[n]]")                  \
      KILOTUNE_TRAINED("a", "p", "[%[w]], #4") KILOTUNE_TRAINED("b", "q", "[%[w], %[n]]")         \
          KILOTUNE_TRAINED("a", "q", "[%[w]], #4") KILOTUNE_TRAINED("d", "p", "[%[v], %[n]]")     \
              KILOTUNE_TRAINED("c", "p", "[%[v]], #4") KILOTUNE_TRAINED("d", "q", "[%[v], %[n]]") \
                  KILOTUNE_TRAINED("c", "q", "[%[v]], #4")

inline __attribute__((always_inline)) void add_four_trained(const int16_t* w, const int8_t* x,
                                                            int16x2_t zero, uint32_t n,
                                                            Four& sums) {
  int32_t a = sums.a, b = sums.b, c = sums.c, d = sums.d;
  const int16_t* v = w + 2 * n;
  if (n >= 4) {
    const int8_t* const end = x + (n & ~3u);  // in memory: every register is taken
    uint32_t t, p, q;
    __asm__ volatile("1:\n" KILOTUNE_FOUR_TRAINED
                     "ldr %[t], %[end]\n"
                     "cmp %[x], %[t]\n"
                     "bne 1b\n"
                     : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), [w] "+r"(w), [v] "+r"(v),
                       [x] "+r"(x), [t] "=&r"(t), [p] "=&r"(p), [q] "=&r"(q)
                     : [n] "r"(2 * n), [zero] "r"(zero), [end] "m"(end)
                     : "cc", "memory");
  }
  const int32_t zero_point = static_cast<int16_t>(static_cast<uint32_t>(zero));
  for (uint32_t left = n & 3u; left != 0; --left) {
    const int32_t input = *x++ - zero_point;
    b += (w[n] >> 8) * input;
    a += (*w++ >> 8) * input;
    d += (v[n] >> 8) * input;
    c += (*v++ >> 8) * input;
  }
  sums = {a, b, c, d};
}

}  // namespace

void dense_trained(const int16_t* w, const int8_t* x, int32_t zero_point, uint32_t in, uint32_t out,
                   const DenseBias& bias, Finish& finish) {
  const int16x2_t zero = static_cast<int16x2_t>(static_cast<uint16_t>(zero_point) * 0x10001u);
  FourWriter writer(finish);
  uint32_t o = 0;
  for (; o + 4 <= out; o += 4, w += 4 * in) {
    Four sums = start(bias, o);
    add_four_trained(w, x, zero, in, sums);
    writer.put(o, sums);
  }
  writer.end();
  for (; o < out; ++o, w += in) finish.put(o, bias.at(o) + dot_trained(w, x, zero_point, in));
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
