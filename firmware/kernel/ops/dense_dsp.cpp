// Dense products with the dual 16-bit multiplies of Cortex-M4, M7 and M33; same bits as the plain
// ones, because sums of integers do not depend on their order.
#include "kernel/ops/dense.h"

#ifdef __ARM_FEATURE_DSP

#include <arm_acle.h>

#include <cstring>

namespace kilotune {
namespace {

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

inline int32_t effective(int8_t w) { return w; }
inline int32_t effective(int16_t w) { return w >> 8; }

// Columns i and i + 2, i + 1 and i + 3 of one row, as halves.
struct Row {
  int16x2_t even, odd;
};
inline Row four(const int8_t* p) {
  const uint32_t v = word(p);
  return {even_bytes(v), odd_bytes(v)};
}
// Trained weights: the high bytes of two words hold columns 0, 1 and 2, 3.
inline Row four(const int16_t* p) {
  const int16x2_t a = odd_bytes(word(p)), b = odd_bytes(word(p + 2));
  return {low_halves(a, b), high_halves(a, b)};
}

// Four neighbouring columns from `p` on, two rows of `in` weights at a time. A function of its own,
// so that everything in its loop has a register.
template <typename Weight>
__attribute__((noinline)) void four_columns(const Weight* p, const int16_t* m, uint32_t out,
                                            uint32_t in, int32_t* values) {
  int32_t a = 0, b = 0, c = 0, d = 0;
  for (const int16_t* end = m + (out & ~1u); m != end;) {
    const int16x2_t pair = static_cast<int16x2_t>(word(m));
    m += 2;
    const Row first = four(p), second = four(p + in);
    p += 2 * in;
    a = __smlad(pair, low_halves(first.even, second.even), a);
    c = __smlad(pair, high_halves(first.even, second.even), c);
    b = __smlad(pair, low_halves(first.odd, second.odd), b);
    d = __smlad(pair, high_halves(first.odd, second.odd), d);
  }
  if ((out & 1u) != 0) {
    a += *m * effective(p[0]);
    b += *m * effective(p[1]);
    c += *m * effective(p[2]);
    d += *m * effective(p[3]);
  }
  values[0] = a;
  values[1] = b;
  values[2] = c;
  values[3] = d;
}

template <typename Weight>
void columns(const Weight* w, const int16_t* m, uint32_t out, uint32_t in, int32_t* values) {
  uint32_t i = 0;
  for (; i + 4 <= in; i += 4) four_columns(w + i, m, out, in, values + i);
  for (; i < in; ++i) {
    int32_t a = 0;
    const Weight* p = w + i;
    for (uint32_t o = 0; o < out; ++o, p += in) a += m[o] * effective(*p);
    values[i] = a;
  }
}

}  // namespace

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
  int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
  // Two pointers for four rows: with one each, the loop would run out of registers.
  const int8_t* v = w + 2 * n;
  const auto one = [](uint32_t weights, int16x2_t even, int16x2_t odd, int32_t acc) {
    return __smlad(odd_bytes(weights), odd, __smlad(even_bytes(weights), even, acc));
  };
  for (uint32_t left = n >> 2; left != 0; --left) {
    const uint32_t four_inputs = word(x);
    x += 4;
    const int16x2_t even = even_bytes(four_inputs), odd = odd_bytes(four_inputs);
    b = one(word(w + n), even, odd, b);
    a = one(word(w), even, odd, a);
    w += 4;
    d = one(word(v + n), even, odd, d);
    c = one(word(v), even, odd, c);
    v += 4;
  }
  for (uint32_t left = n & 3u; left != 0; --left) {
    const int32_t input = *x++;
    b += w[n] * input;
    a += *w++ * input;
    d += v[n] * input;
    c += *v++ * input;
  }
  sums[0] = a;
  sums[1] = b;
  sums[2] = c;
  sums[3] = d;
}

int32_t dot_trained(const int16_t* w, const int8_t* x, int32_t zero_point, uint32_t n) {
  const uint32_t pair = static_cast<uint16_t>(zero_point) * 0x10001u;
  const int16x2_t zero = static_cast<int16x2_t>(pair);
  int32_t acc = 0;
  for (const int16_t* end = w + (n & ~3u); w != end; w += 4, x += 4) {
    const Row row = four(w);
    const uint32_t xv = word(x);
    acc = __smlad(row.even, __ssub16(even_bytes(xv), zero), acc);
    acc = __smlad(row.odd, __ssub16(odd_bytes(xv), zero), acc);
  }
  for (n &= 3u; n != 0; --n) acc += (*w++ >> 8) * (*x++ - zero_point);
  return acc;
}

void transpose_multiply(const int8_t* w, const int16_t* m, uint32_t out, uint32_t in,
                        int32_t* values) {
  columns(w, m, out, in, values);
}
void transpose_multiply(const int16_t* w, const int16_t* m, uint32_t out, uint32_t in,
                        int32_t* values) {
  columns(w, m, out, in, values);
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
