// Layers with positions, two at a time: each weight is spread to a half-word once for both.
#include "kernel/ops/positions.h"

#ifdef __ARM_FEATURE_DSP

#include "kernel/ops/fours_dsp.h"

namespace kilotune {
namespace {

// Four inputs of two positions, sign-extended: bytes 0, 2 and 1, 3 of each.
struct Quad {
  int16x2_t even[2], odd[2];

  [[nodiscard]] int32_t input(uint32_t i, uint32_t which) const {
    const int32_t pair = (i & 1u) == 0 ? even[which] : odd[which];
    return i < 2 ? static_cast<int16_t>(pair) : pair >> 16;
  }
};

// Inputs of position `which`, with zeros after the last.
void spread(const int8_t* x, uint32_t n, uint32_t which, Quad* quads) {
  for (; n >= 4; n -= 4, x += 4, ++quads) {
    const uint32_t v = word(x);
    quads->even[which] = even_bytes(v);
    quads->odd[which] = odd_bytes(v);
  }
  if (n == 0) return;
  uint32_t v = 0;
  for (uint32_t i = 0; i < n; ++i) v |= static_cast<uint32_t>(static_cast<uint8_t>(x[i])) << 8 * i;
  quads->even[which] = even_bytes(v);
  quads->odd[which] = odd_bytes(v);
}

// Two rows of weights, `n` apart, times four inputs of two positions: 16 products in 16
// instructions.
#define KILOTUNE_QUAD               \
  "ldr %[t], [%[w], %[n]]\n"        \
  "ldrd %[x0], %[x1], [%[x]], #8\n" \
  "ldr %[s], [%[w]], #4\n"          \
  "sxtb16 %[u], %[t]\n"             \
  "smlad %[c], %[u], %[x0], %[c]\n" \
  "smlad %[d], %[u], %[x1], %[d]\n" \
  "sxtb16 %[u], %[s]\n"             \
  "smlad %[a], %[u], %[x0], %[a]\n" \
  "smlad %[b], %[u], %[x1], %[b]\n" \
  "ldrd %[x0], %[x1], [%[x]], #8\n" \
  "sxtb16 %[t], %[t], ror #8\n"     \
  "smlad %[c], %[t], %[x0], %[c]\n" \
  "smlad %[d], %[t], %[x1], %[d]\n" \
  "sxtb16 %[s], %[s], ror #8\n"     \
  "smlad %[a], %[s], %[x0], %[a]\n" \
  "smlad %[b], %[s], %[x1], %[b]\n"

// a, b: the first row's sums at both positions; c, d: the second row's.
inline __attribute__((always_inline)) void add_two_rows(const int8_t* w, const Quad* x, uint32_t n,
                                                        int32_t& first_a, int32_t& first_b,
                                                        int32_t& second_a, int32_t& second_b) {
  int32_t a = first_a, b = first_b, c = second_a, d = second_b;
  if (n >= 4) {
    uint32_t left = n >> 2, t, s, u, x0, x1;
    __asm__ volatile(KILOTUNE_TURNS(KILOTUNE_QUAD)
                     : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), [w] "+r"(w), [x] "+r"(x),
                       [left] "+r"(left), [t] "=&r"(t), [s] "=&r"(s), [u] "=&r"(u), [x0] "=&r"(x0),
                       [x1] "=&r"(x1)
                     : [n] "r"(n)
                     : "cc", "memory");
  }
  // The last 1 to 3 inputs, one by one: the weights after a row are not its own.
  for (uint32_t i = 0; i < (n & 3u); ++i) {
    const int32_t x0 = x->input(i, 0), x1 = x->input(i, 1);
    a += w[i] * x0;
    b += w[i] * x1;
    c += w[n + i] * x0;
    d += w[n + i] * x1;
  }
  first_a = a;
  first_b = b;
  second_a = c;
  second_b = d;
}

// One row at one of the two positions.
int32_t dot_spread(const int8_t* w, const Quad* x, uint32_t n, uint32_t which) {
  int32_t acc = 0;
  for (; n >= 4; n -= 4, w += 4, ++x) {
    const uint32_t v = word(w);
    acc = __smlad(even_bytes(v), x->even[which], acc);
    acc = __smlad(odd_bytes(v), x->odd[which], acc);
  }
  for (uint32_t i = 0; i < n; ++i) acc += w[i] * x->input(i, which);
  return acc;
}

void two_positions(const int8_t* w, const Quad* x, uint32_t in, uint32_t out, const DenseBias& bias,
                   Finish& first, Finish& second) {
  FourWriter a(first), b(second);
  uint32_t o = 0;
  for (; o + 4 <= out; o += 4, w += 4 * in) {
    Four p = start(bias, o), q = p;
    add_two_rows(w, x, in, p.a, q.a, p.b, q.b);
    add_two_rows(w + 2 * in, x, in, p.c, q.c, p.d, q.d);
    a.put(o, p);
    b.put(o, q);
  }
  a.end();
  b.end();
  for (; o < out; ++o, w += in) {
    first.put(o, bias.at(o) + dot_spread(w, x, in, 0));
    second.put(o, bias.at(o) + dot_spread(w, x, in, 1));
  }
}

}  // namespace

void dense_positions(const int8_t* w, Patches& patches, uint32_t positions, uint32_t in,
                     uint32_t out, const DenseBias& bias, Finish& finish, uint8_t* scratch) {
  Quad* quads = reinterpret_cast<Quad*>(scratch);
  for (; positions >= 2; positions -= 2) {
    spread(patches.next(), in, 0, quads);
    spread(patches.next(), in, 1, quads);
    Finish second = finish;
    second.next(out);
    two_positions(w, quads, in, out, bias, finish, second);
    finish.flush(out);
    second.flush(out);
    second.next(out);
    finish = second;
  }
  if (positions == 0) return;
  dense_layer(w, patches.next_apart(scratch), in, out, bias, finish);
  finish.flush(out);
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
