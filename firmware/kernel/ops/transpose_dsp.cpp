// Dense layers backward with the dual 16-bit multiplies of Cortex-M4, M7 and M33; same bits as the
// plain ones, because sums of integers do not depend on their order.
#include "kernel/ops/dense.h"

#ifdef __ARM_FEATURE_DSP

#include "kernel/ops/dsp.h"

namespace kilotune {
namespace {

struct Four {
  int32_t a, b, c, d;
};

// Two rows times two mantissas, four columns: 8 products in 15 instructions, including loads. Half-
// words of both rows are combined first, so that one spreading step serves both rows.
#define KILOTUNE_TWO_ROWS(first, second) \
  "ldr %[t], " first                     \
  "\n"                                   \
  "ldr %[u], " second                    \
  "\n"                                   \
  "ldr %[m], [%[mantissa]], #4\n"        \
  "pkhbt %[q], %[t], %[u], lsl #16\n"    \
  "pkhtb %[u], %[u], %[t], asr #16\n"    \
  "sxtb16 %[t], %[q]\n"                  \
  "smlad %[a], %[t], %[m], %[a]\n"       \
  "sxtb16 %[q], %[q], ror #8\n"          \
  "smlad %[b], %[q], %[m], %[b]\n"       \
  "sxtb16 %[t], %[u]\n"                  \
  "smlad %[c], %[t], %[m], %[c]\n"       \
  "sxtb16 %[u], %[u], ror #8\n"          \
  "smlad %[d], %[u], %[m], %[d]\n"
#define KILOTUNE_FOUR_ROWS                                       \
  KILOTUNE_TWO_ROWS("[%[w]]", "[%[w], %[in]]")                   \
  KILOTUNE_TWO_ROWS("[%[w], %[in], lsl #1]", "[%[w], %[three]]") \
  "add %[w], %[w], %[in], lsl #2\n"

// Four neighbouring columns from `w` on, frozen weights.
inline __attribute__((always_inline)) Four four_columns(const int8_t* w, const int16_t* m,
                                                        uint32_t out, uint32_t in, Four sums = {}) {
  int32_t a = sums.a, b = sums.b, c = sums.c, d = sums.d;
  if (out >= 4) {
    uint32_t left = out >> 2, t, u, q, pair;
    __asm__ volatile(
        KILOTUNE_TURNS(KILOTUNE_FOUR_ROWS)
        : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), [w] "+r"(w), [mantissa] "+r"(m),
          [left] "+r"(left), [t] "=&r"(t), [u] "=&r"(u), [q] "=&r"(q), [m] "=&r"(pair)
        : [in] "r"(in), [three] "r"(3 * in)
        : "cc", "memory");
  }
  for (uint32_t left = out & 3u; left != 0; --left, w += in) {
    const int32_t g = *m++;
    a += g * w[0];
    b += g * w[1];
    c += g * w[2];
    d += g * w[3];
  }
  return {a, b, c, d};
}

// The same for trained weights, whose high bytes count.
inline Four four_columns(const int16_t* w, const int16_t* m, uint32_t out, uint32_t in) {
  int32_t a = 0, b = 0, c = 0, d = 0;
  for (const int16_t* end = m + out; m != end; w += in) {
    const int32_t g = *m++;
    a += g * (w[0] >> 8);
    b += g * (w[1] >> 8);
    c += g * (w[2] >> 8);
    d += g * (w[3] >> 8);
  }
  return {a, b, c, d};
}

inline int32_t effective(int8_t w) { return w; }
inline int32_t effective(int16_t w) { return w >> 8; }

template <typename Weight>
inline void columns(const Weight* w, const int16_t* m, uint32_t out, uint32_t in, int32_t* values) {
  uint32_t left = in;
  for (; left >= 4; left -= 4, w += 4) {
    const Four v = four_columns(w, m, out, in);
    values[0] = v.a;
    values[1] = v.b;
    values[2] = v.c;
    values[3] = v.d;
    values += 4;
  }
  for (; left != 0; --left, ++w) {
    int32_t a = 0;
    const Weight* p = w;
    for (uint32_t o = 0; o < out; ++o, p += in) a += m[o] * effective(*p);
    *values++ = a;
  }
}

}  // namespace

void transpose_multiply(const int8_t* w, const int16_t* m, uint32_t out, uint32_t in,
                        int32_t* values) {
  columns(w, m, out, in, values);
}
void transpose_multiply(const int16_t* w, const int16_t* m, uint32_t out, uint32_t in,
                        int32_t* values) {
  columns(w, m, out, in, values);
}

void transpose_add(const int8_t* w, const int16_t* m, uint32_t out, uint32_t stride, uint32_t n,
                   int32_t* values) {
  for (; n >= 4; n -= 4, w += 4, values += 4) {
    const Four v = four_columns(w, m, out, stride, {values[0], values[1], values[2], values[3]});
    values[0] = v.a;
    values[1] = v.b;
    values[2] = v.c;
    values[3] = v.d;
  }
  for (; n != 0; --n, ++w, ++values) {
    const int8_t* p = w;
    for (uint32_t o = 0; o < out; ++o, p += stride) *values += m[o] * *p;
  }
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
