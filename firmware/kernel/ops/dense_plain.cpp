// Dense products in plain C++, for cores without dual 16-bit multiplies.
#include "kernel/ops/dense.h"

#ifndef __ARM_FEATURE_DSP

namespace kilotune {
namespace {

inline int32_t effective(int8_t w) { return w; }
inline int32_t effective(int16_t w) { return w >> 8; }

// Four columns at a time: the accumulators stay in registers and the rows are read once a block.
template <typename Weight>
void columns(const Weight* w, const int16_t* m, uint32_t out, uint32_t in, int32_t* values) {
  uint32_t i = 0;
  for (; i + 4 <= in; i += 4) {
    int32_t a = 0, b = 0, c = 0, d = 0;
    const Weight* p = w + i;
    for (uint32_t o = 0; o < out; ++o, p += in) {
      const int32_t g = m[o];
      a += g * effective(p[0]);
      b += g * effective(p[1]);
      c += g * effective(p[2]);
      d += g * effective(p[3]);
    }
    values[i] = a;
    values[i + 1] = b;
    values[i + 2] = c;
    values[i + 3] = d;
  }
  for (; i < in; ++i) {
    int32_t a = 0;
    const Weight* p = w + i;
    for (uint32_t o = 0; o < out; ++o, p += in) a += m[o] * effective(*p);
    values[i] = a;
  }
}

}  // namespace

void dense_layer(const int8_t* w, const int8_t* x, uint32_t in, uint32_t out, const DenseBias& bias,
                 Finish& finish) {
  uint32_t o = 0;
  for (; o + 4 <= out; o += 4, w += 4 * in) {
    int32_t sums[4];
    for (uint32_t k = 0; k < 4; ++k) sums[k] = bias.at(o + k);
    dot4_q(w, x, in, sums);
    for (uint32_t k = 0; k < 4; ++k) finish.put(o + k, sums[k]);
  }
  for (; o < out; ++o, w += in) finish.put(o, bias.at(o) + dot_q(w, x, in));
}

int32_t dot_q(const int8_t* w, const int8_t* x, uint32_t n) {
  int32_t acc = 0;
  for (uint32_t i = 0; i < n; ++i) acc += w[i] * x[i];
  return acc;
}

void dot4_q(const int8_t* w, const int8_t* x, uint32_t n, int32_t sums[4]) {
  int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
  const int8_t *w1 = w + n, *w2 = w1 + n, *w3 = w2 + n;
  for (uint32_t i = 0; i < n; ++i) {
    const int32_t v = x[i];
    a += w[i] * v;
    b += w1[i] * v;
    c += w2[i] * v;
    d += w3[i] * v;
  }
  sums[0] = a;
  sums[1] = b;
  sums[2] = c;
  sums[3] = d;
}

int32_t dot_trained(const int16_t* w, const int8_t* x, int32_t zero_point, uint32_t n) {
  int32_t acc = 0;
  for (uint32_t i = 0; i < n; ++i) acc += (w[i] >> 8) * (x[i] - zero_point);
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

void round_values(const int32_t* values, int shift, uint32_t n, int16_t* mantissa) {
  for (uint32_t i = 0; i < n; ++i) {
    // v >> (shift - 1) fits 31 bits, so that adding the rounding bit cannot overflow.
    mantissa[i] = static_cast<int16_t>(((values[i] >> (shift - 1)) + 1) >> 1);
  }
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
