// Dense products in plain C++, for cores without dual 16-bit multiplies.
#include "kernel/ops/dense.h"

#ifndef __ARM_FEATURE_DSP

namespace kilotune {
namespace {

inline int32_t effective(int8_t w) { return w; }
inline int32_t effective(int16_t w) { return w >> 8; }

// Four columns at a time, of rows that lie `stride` apart: the accumulators stay in registers and
// the rows are read once per block. Unsigned: whatever an image claims, sums do not trap.
template <bool add, typename Weight>
void columns(const Weight* w, const int16_t* m, uint32_t out, uint32_t stride, uint32_t n,
             int32_t* values) {
  const auto product = [](int32_t g, Weight weight) {
    return static_cast<uint32_t>(g * effective(weight));
  };
  uint32_t i = 0;
  for (; i + 4 <= n; i += 4) {
    uint32_t a = 0, b = 0, c = 0, d = 0;
    const Weight* p = w + i;
    for (uint32_t o = 0; o < out; ++o, p += stride) {
      const int32_t g = m[o];
      a += product(g, p[0]);
      b += product(g, p[1]);
      c += product(g, p[2]);
      d += product(g, p[3]);
    }
    int32_t* v = values + i;
    v[0] = static_cast<int32_t>(a + (add ? static_cast<uint32_t>(v[0]) : 0u));
    v[1] = static_cast<int32_t>(b + (add ? static_cast<uint32_t>(v[1]) : 0u));
    v[2] = static_cast<int32_t>(c + (add ? static_cast<uint32_t>(v[2]) : 0u));
    v[3] = static_cast<int32_t>(d + (add ? static_cast<uint32_t>(v[3]) : 0u));
  }
  for (; i < n; ++i) {
    uint32_t a = 0;
    const Weight* p = w + i;
    for (uint32_t o = 0; o < out; ++o, p += stride) a += product(m[o], *p);
    values[i] = static_cast<int32_t>(a + (add ? static_cast<uint32_t>(values[i]) : 0u));
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

void dense_trained(const int16_t* w, const int8_t* x, int32_t zero_point, uint32_t in, uint32_t out,
                   const DenseBias& bias, Finish& finish) {
  for (uint32_t o = 0; o < out; ++o, w += in)
    finish.put(o, bias.at(o) + dot_trained(w, x, zero_point, in));
}

void transpose_multiply(const int8_t* w, const int16_t* m, uint32_t out, uint32_t in,
                        int32_t* values) {
  columns<false>(w, m, out, in, in, values);
}
void transpose_multiply(const int16_t* w, const int16_t* m, uint32_t out, uint32_t in,
                        int32_t* values) {
  columns<false>(w, m, out, in, in, values);
}

void transpose_add(const int8_t* w, const int16_t* m, uint32_t out, uint32_t stride, uint32_t n,
                   int32_t* values) {
  columns<true>(w, m, out, stride, n, values);
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
