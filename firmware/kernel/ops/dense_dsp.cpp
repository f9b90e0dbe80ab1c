// Dense layers forward with the dual 16-bit multiplies of Cortex-M4, M7 and M33; same bits as the
// plain ones, because sums of integers do not depend on their order.
#include "kernel/ops/dense.h"

#ifdef __ARM_FEATURE_DSP

#include "kernel/ops/fours_dsp.h"

namespace kilotune {
namespace {

// --- forward -------------------------------------------------------------------------------------

// Four rows of weights, `n` apart, times four inputs: 16 products in 23 instructions. The inputs
// are spread to half-words once; each row's word is spread in two steps that reuse its register.
#define KILOTUNE_ROW(sum, row)           \
  "ldr %[t], " row                       \
  "\n"                                   \
  "sxtb16 %[u], %[t]\n"                  \
  "smlad %[" sum "], %[u], %[e], %[" sum \
  "]\n"                                  \
  "sxtb16 %[t], %[t], ror #8\n"          \
  "smlad %[" sum "], %[t], %[o], %[" sum "]\n"
#define KILOTUNE_FOUR_INPUTS                                                                      \
  "ldr %[t], [%[x]], #4\n"                                                                        \
  "sxtb16 %[e], %[t]\n"                                                                           \
  "sxtb16 %[o], %[t], ror #8\n" KILOTUNE_ROW("b", "[%[w], %[n]]") KILOTUNE_ROW("a", "[%[w]], #4") \
      KILOTUNE_ROW("d", "[%[v], %[n]]") KILOTUNE_ROW("c", "[%[v]], #4")

// By hand, because the compiler keeps four row pointers and runs out of registers.
inline __attribute__((always_inline)) void add_four_rows(const int8_t* w, const int8_t* x,
                                                         uint32_t n, Four& sums) {
  int32_t a = sums.a, b = sums.b, c = sums.c, d = sums.d;
  const int8_t* v = w + 2 * n;
  if (n >= 4) {
    uint32_t left = n >> 2, t, u, e, o;
    __asm__ volatile(
        KILOTUNE_TURNS(KILOTUNE_FOUR_INPUTS)
        : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), [w] "+r"(w), [v] "+r"(v), [x] "+r"(x),
          [left] "+r"(left), [t] "=&r"(t), [u] "=&r"(u), [e] "=&r"(e), [o] "=&r"(o)
        : [n] "r"(n)
        : "cc", "memory");
  }
  for (uint32_t left = n & 3u; left != 0; --left) {
    const int32_t input = *x++;
    b += w[n] * input;
    a += *w++ * input;
    d += v[n] * input;
    c += *v++ * input;
  }
  sums = {a, b, c, d};
}

}  // namespace

void dense_layer(const int8_t* w, const int8_t* x, uint32_t in, uint32_t out, const DenseBias& bias,
                 Finish& finish) {
  FourWriter writer(finish);
  uint32_t o = 0;
  for (; o + 4 <= out; o += 4, w += 4 * in) {
    Four sums = start(bias, o);
    add_four_rows(w, x, in, sums);
    writer.put(o, sums);
  }
  writer.end();
  for (; o < out; ++o, w += in) finish.put(o, bias.at(o) + dot_q(w, x, in));
}

int32_t dot_q(const int8_t* w, const int8_t* x, uint32_t n) {
  int32_t acc = 0;
  for (const int8_t* end = w + (n & ~3u); w != end; w += 4, x += 4) {
    const uint32_t wv = word(w), xv = word(x);
    acc = __smlad(even_bytes(wv), even_bytes(xv), acc);
    acc = __smlad(odd_bytes(wv), odd_bytes(xv), acc);
  }
  for (n &= 3u; n != 0; --n) acc += *w++ * *x++;
  return acc;
}

void dot4_q(const int8_t* w, const int8_t* x, uint32_t n, int32_t sums[4]) {
  Four four = {sums[0], sums[1], sums[2], sums[3]};
  add_four_rows(w, x, n, four);
  sums[0] = four.a;
  sums[1] = four.b;
  sums[2] = four.c;
  sums[3] = four.d;
}

int32_t dot_trained(const int16_t* w, const int8_t* x, int32_t zero_point, uint32_t n) {
  const uint32_t pair = static_cast<uint16_t>(zero_point) * 0x10001u;
  const int16x2_t zero = static_cast<int16x2_t>(pair);
  int32_t acc = 0;
  for (const int16_t* end = w + (n & ~3u); w != end; w += 4, x += 4) {
    // The high bytes of two words hold inputs 0, 1 and 2, 3.
    const int16x2_t a = odd_bytes(word(w)), b = odd_bytes(word(w + 2));
    const uint32_t xv = word(x);
    acc = __smlad(low_halves(a, b), __ssub16(even_bytes(xv), zero), acc);
    acc = __smlad(high_halves(a, b), __ssub16(odd_bytes(xv), zero), acc);
  }
  for (n &= 3u; n != 0; --n) acc += (*w++ >> 8) * (*x++ - zero_point);
  return acc;
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
