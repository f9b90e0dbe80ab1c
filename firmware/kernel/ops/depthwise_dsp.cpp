// Depthwise products with dual 16-bit multiplies (Cortex-M4, M7, M33): neighbouring inputs of one
// channel are two halves of a word, and a window's weights stay in registers along a row.
#include "kernel/ops/depthwise.h"

#ifdef __ARM_FEATURE_DSP

#include "kernel/ops/dsp.h"
#include "kernel/ops/finish.h"

namespace kilotune {
namespace {

inline int16x2_t pair(const int16_t* p) { return static_cast<int16x2_t>(word(p)); }

void add_row(const int16_t* w, const int16_t* x, uint32_t stride, int32_t* sums, uint32_t n) {
  const int16x2_t first = pair(w), second = pair(w + 2);
  for (const int32_t* end = sums + n; sums != end; ++sums, x += stride)
    *sums = __smlad(second, pair(x + 2), __smlad(first, pair(x), *sums));
}

// `stride` as a constant: the loads step by themselves.
template <uint32_t stride>
void add_three_rows(const int16_t (*w)[kTapColumns], const int16_t* const x[3], int32_t* sums,
                    uint32_t n) {
  const int16_t *a = x[0], *b = x[1], *c = x[2];
  const int16x2_t a0 = pair(w[0]), a1 = pair(w[0] + 2), b0 = pair(w[1]), b1 = pair(w[1] + 2),
                  c0 = pair(w[2]), c1 = pair(w[2] + 2);
  for (const int32_t* end = sums + n; sums != end; ++sums) {
    int32_t sum = *sums, t;
    __asm__(
        "ldr %[t], [%[a], #4]\n"
        "smlad %[s], %[t], %[a1], %[s]\n"
        "ldr %[t], [%[a]], %[step]\n"
        "smlad %[s], %[t], %[a0], %[s]\n"
        "ldr %[t], [%[b], #4]\n"
        "smlad %[s], %[t], %[b1], %[s]\n"
        "ldr %[t], [%[b]], %[step]\n"
        "smlad %[s], %[t], %[b0], %[s]\n"
        "ldr %[t], [%[c], #4]\n"
        "smlad %[s], %[t], %[c1], %[s]\n"
        "ldr %[t], [%[c]], %[step]\n"
        "smlad %[s], %[t], %[c0], %[s]\n"
        : [s] "+r"(sum), [t] "=&r"(t), [a] "+r"(a), [b] "+r"(b), [c] "+r"(c)
        : [a0] "r"(a0), [a1] "r"(a1), [b0] "r"(b0), [b1] "r"(b1), [c0] "r"(c0), [c1] "r"(c1),
          [step] "i"(2 * stride)
        : "memory");
    *sums = sum;
  }
}

}  // namespace

void add_taps(const TapBlock& block, const int16_t* const x[kTapRows], uint32_t stride,
              int32_t* sums, uint32_t n) {
  const auto w = block.weights;
  if (block.rows == 3 && stride == 1) return add_three_rows<1>(w, x, sums, n);
  if (block.rows == 3 && stride == 2) return add_three_rows<2>(w, x, sums, n);
  for (uint32_t r = 0; r < block.rows; ++r) add_row(w[r], x[r], stride, sums, n);
}

void finish_channel(const ChannelFinish& finish, const int32_t* sums, uint32_t n, int8_t* y,
                    uint32_t step) {
  const int32_t *end = sums + n, low = finish.low, high = finish.high;
  const int right = -finish.shift;
  if (!shifts_short(finish.shift)) {
    for (; sums != end; ++sums, y += step) {
      const int32_t scaled = clamp(requantise(*sums, finish.multiplier, finish.shift), -512, 512);
      *y = static_cast<int8_t>(clamp(scaled + finish.zero_point, low, high));
    }
    return;
  }
  const int32_t multiplier = finish.multiplier;
  const int32_t offset = (1 << (right - 1)) + finish.zero_point * (1 << right);
  const auto output = [=](int32_t sum) {
    const int32_t product = high_multiply_rounded(twice(sum), multiplier);
    return __ssat((product + (product >> 31) + offset) >> right, 8);
  };
  if (low == -128 && high == 127) {
    for (; sums != end; ++sums, y += step) *y = static_cast<int8_t>(output(*sums));
  } else {
    for (; sums != end; ++sums, y += step)
      *y = static_cast<int8_t>(clamp(output(*sums), low, high));
  }
}

// Four channels: 10 instructions. The sums lie in ascending registers, as load and store multiple
// need.
#define KILOTUNE_FOUR_PRODUCTS    \
  "ldm %[v], {r4, r5, r6, r8}\n"  \
  "ldrd %[p], %[q], [%[m]], #8\n" \
  "ldr %[w], [%[weights]], #4\n"  \
  "sxtb16 %[e], %[w]\n"           \
  "sxtb16 %[w], %[w], ror #8\n"   \
  "smlabb r4, %[p], %[e], r4\n"   \
  "smlatb r5, %[p], %[w], r5\n"   \
  "smlabt r6, %[q], %[e], r6\n"   \
  "smlatt r8, %[q], %[w], r8\n"   \
  "stm %[v]!, {r4, r5, r6, r8}\n"

void add_products(const int8_t* w, const int16_t* m, int32_t* values, uint32_t n) {
  if (n >= 4) {
    uint32_t left = n >> 2, p, q, e, t;
    __asm__ volatile(KILOTUNE_TURNS(KILOTUNE_FOUR_PRODUCTS)
                     : [v] "+r"(values), [m] "+r"(m), [weights] "+r"(w), [left] "+r"(left),
                       [p] "=&r"(p), [q] "=&r"(q), [e] "=&r"(e), [w] "=&r"(t)
                     :
                     : "r4", "r5", "r6", "r8", "cc", "memory");
  }
  for (uint32_t left = n & 3u; left != 0; --left) *values++ += *m++ * *w++;
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
