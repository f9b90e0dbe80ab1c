// Dense layers forward with the dual 16-bit multiplies of Cortex-M4, M7 and M33; same bits as the
// plain ones, because sums of integers do not depend on their order.
#include "kernel/ops/dense.h"

#ifdef __ARM_FEATURE_DSP

#include "kernel/ops/dsp.h"

namespace kilotune {
namespace {

// --- forward -------------------------------------------------------------------------------------

// Four rows of weights, `n` apart, times four inputs: 16 products in 23 instructions. The inputs
// are spread to halves once; each row's word is spread in two steps that reuse its register.
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

struct Four {
  int32_t a, b, c, d;
};

// By hand, because the compiler keeps four row pointers and runs out of registers.
inline __attribute__((always_inline)) void add_four_rows(const int8_t* w, const int8_t* x,
                                                         uint32_t n, Four& sums) {
  int32_t a = sums.a, b = sums.b, c = sums.c, d = sums.d;
  const int8_t* v = w + 2 * n;
  if (n >= 4) {
    uint32_t left = n >> 2, t, u, e, o;
    // Two turns a branch; an odd number begins with the second.
    __asm__ volatile(
        "tst %[left], #1\n"
        "add %[left], %[left], #1\n"
        "lsr %[left], %[left], #1\n"
        "bne 2f\n"
        "1:\n" KILOTUNE_FOUR_INPUTS "2:\n" KILOTUNE_FOUR_INPUTS
        "subs %[left], %[left], #1\n"
        "bne 1b\n"
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

// Outputs of a layer whose scales shift right by 1 to kShortShift: four at a time, int8 saturation
// and mask included. |acc| < 2^30: doubling is exact, and (2 acc m + 2^31) >> 32 is the doubling
// high multiply.
class FinishFours {
 public:
  explicit FinishFours(const Finish& f)
      : multiplier_(load_i32(f.multipliers)),
        right_(-f.shifts[0]),
        zero_point_(f.zero_point),
        offset_((1 << ((right_ - 1) & 31)) + f.zero_point * (1 << (right_ & 31))),
        low_(f.low),
        high_(f.high),
        narrow_(f.low != -128 || f.high != 127),
        test_(f.low, f.high) {}
  // With one scale for all.
  [[nodiscard]] uint32_t pack(const Four& s) const {
    return packed(output(s.a), output(s.b), output(s.c), output(s.d));
  }
  // With one for each channel: `multipliers` and `shifts` of these four.
  [[nodiscard]] uint32_t pack(const Four& s, const uint8_t* multipliers,
                              const int8_t* shifts) const {
    Four m;
    std::memcpy(&m, aligned4(multipliers), sizeof m);
    const uint32_t n = ~word(shifts);  // right - 1 of each, in bytes
    return packed(output(s.a, m.a, n), output(s.b, m.b, n >> 8), output(s.c, m.c, n >> 16),
                  output(s.d, m.d, n >> 24));
  }
  // Bit k: output k of `packed` lies strictly between the ends of the activation.
  [[nodiscard]] uint32_t passes(uint32_t packed) const { return test_.passes(packed); }

 private:
  [[nodiscard]] uint32_t packed(int32_t a, int32_t b, int32_t c, int32_t d) const {
    if (narrow_) {
      a = clamp(a, low_, high_);
      b = clamp(b, low_, high_);
      c = clamp(c, low_, high_);
      d = clamp(d, low_, high_);
    }
    const auto byte = [](int32_t q) { return static_cast<uint32_t>(q) & 0xFFu; };
    return byte(a) | byte(b) << 8 | byte(c) << 16 | byte(d) << 24;
  }
  [[nodiscard]] int32_t output(int32_t acc) const {
    const int32_t high = high_multiply_rounded(acc * 2, multiplier_);
    return __ssat((high + (high >> 31) + offset_) >> right_, 8);
  }
  [[nodiscard]] int32_t output(int32_t acc, int32_t multiplier, uint32_t n) const {
    const int32_t high = high_multiply_rounded(acc * 2, multiplier);
    const int32_t twice = shift_right(high + (high >> 31) + shift_left(1, n), n);
    return __ssat((twice >> 1) + zero_point_, 8);
  }

  int32_t multiplier_;
  int right_;
  int32_t zero_point_, offset_, low_, high_;
  bool narrow_;
  PassTest test_;
};

// Up to so many inputs |acc| < 2^30 (bias and trained part: 2^28 each).
constexpr uint32_t kFinishFoursInputs = 32000;

inline Four start(const DenseBias& bias, uint32_t o) {
  const int32_t* b = reinterpret_cast<const int32_t*>(bias.frozen) + o;
  Four sums = {b[0], b[1], b[2], b[3]};
  if (bias.delta == nullptr) return sums;
  const int32_t* d = bias.delta + o;
  const int shift = bias.shift, half = 1 << (shift - 1);
  sums.a += (d[0] + half) >> shift;
  sums.b += (d[1] + half) >> shift;
  sums.c += (d[2] + half) >> shift;
  sums.d += (d[3] + half) >> shift;
  return sums;
}

}  // namespace

void dense_layer(const int8_t* w, const int8_t* x, uint32_t in, uint32_t out, const DenseBias& bias,
                 Finish& finish) {
  const bool in_fours = finish.short_shifts && in <= kFinishFoursInputs;
  const FinishFours fours(finish);
  int8_t* y = finish.y;
  uint8_t* mask = finish.mask;
  uint32_t bits = 0, o = 0;
  for (; o + 4 <= out; o += 4, w += 4 * in) {
    Four sums = start(bias, o);
    add_four_rows(w, x, in, sums);
    if (!in_fours) {
      finish.put(o, sums.a);
      finish.put(o + 1, sums.b);
      finish.put(o + 2, sums.c);
      finish.put(o + 3, sums.d);
      continue;
    }
    const uint32_t packed = finish.stride == 0
                                ? fours.pack(sums)
                                : fours.pack(sums, finish.multipliers + 4 * o, finish.shifts + o);
    std::memcpy(y, &packed, sizeof packed);
    y += 4;
    if (mask == nullptr) continue;
    bits = (bits >> 4) | fours.passes(packed) << 4;
    *mask = static_cast<uint8_t>(bits);  // the first of two halves is written over
    mask += (o >> 2) & 1u;
  }
  if (in_fours) finish.bits = bits;
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
