// Depthwise 3x3 windows backward with dual 16-bit multiplies (Cortex-M4, M7, M33): 36 products of
// four channels in 40 instructions.
#include "kernel/ops/triples.h"

#ifdef __ARM_FEATURE_DSP

#include "kernel/ops/dsp.h"

namespace kilotune {
namespace {

// Rows of the output's gradient at one column, for channels a, b, c, d: the two older rows in one
// word per channel, the newest row with two channels per word. Which half is older alternates, so
// that a new row takes one instruction per word. Weights lie in the same order.
struct Quad {
  uint32_t a, b;  // {older, newer}, {newer, older}: upper half first
  uint32_t ab;
  uint32_t c, d;
  uint32_t cd;
};
static_assert(sizeof(Quad) == 24, "the assembler code steps by it");

// Inserts a row at one column of all channels: `left` quads, `step` bytes apart.
inline void push_column(Quad* quad, const int16_t* m, uint32_t left, uint32_t step) {
  __asm__ volatile(
      "1:\n"
      "ldm %[quad], {r4, r5, r6, r8, r9, r10}\n"
      "pkhbt r4, r6, r4, lsl #16\n"
      "pkhtb r5, r6, r5, asr #16\n"
      "ldr r6, [%[m]], #4\n"
      "pkhbt r8, r10, r8, lsl #16\n"
      "pkhtb r9, r10, r9, asr #16\n"
      "ldr r10, [%[m]], #4\n"
      "stm %[quad], {r4, r5, r6, r8, r9, r10}\n"
      "add %[quad], %[quad], %[step]\n"
      "subs %[left], %[left], #1\n"
      "bne 1b\n"
      : [quad] "+r"(quad), [m] "+r"(m), [left] "+r"(left)
      : [step] "r"(step)
      : "r4", "r5", "r6", "r8", "r9", "r10", "cc", "memory");
}

// One column of a window for four channels.
#define KILOTUNE_TWO_CHANNELS(multiply, a, b, end_a, end_b)                                        \
  "ldmia r1!, {r4, r5, r6}\n"                                                                      \
  "ldmia r2!, {r7, r8, r9}\n" multiply " " a ", r4, r7" end_a "\n" multiply " " b ", r5, r8" end_b \
  "\n"                                                                                             \
  "smlabb " a ", r6, r9, " a                                                                       \
  "\n"                                                                                             \
  "smlatt " b ", r6, r9, " b "\n"
#define KILOTUNE_FIRST_COLUMN                          \
  KILOTUNE_TWO_CHANNELS("smuad", "r10", "r11", "", "") \
  KILOTUNE_TWO_CHANNELS("smuad", "r12", "lr", "", "")
#define KILOTUNE_COLUMN                                          \
  KILOTUNE_TWO_CHANNELS("smlad", "r10", "r11", ", r10", ", r11") \
  KILOTUNE_TWO_CHANNELS("smlad", "r12", "lr", ", r12", ", lr")
#define KILOTUNE_COLUMNS(columns, skip)                  \
  "push {r4-r11, lr}\n"                                  \
  "1:\n" columns "stmia r0!, {r10, r11, r12, lr}\n" skip \
  "uxtah r1, r1, r3\n"                                   \
  "subs r3, r3, #0x10000\n"                              \
  "bcs 1b\n"                                             \
  "pop {r4-r11, pc}\n"

// values(c) = sum over `columns` columns of the products of channel c. `control`: bytes from one
// quad's last column to the next quad's first one, and above these 16 bits the number of quads
// after the first. All registers are in use, which is possible only in a function without a frame.
using Multiply = void(int32_t* values, const Quad* rows, const Quad* weights, uint32_t control);
[[gnu::naked, gnu::noipa]] void one_column(int32_t*, const Quad*, const Quad*, uint32_t) {
  __asm__(KILOTUNE_COLUMNS(KILOTUNE_FIRST_COLUMN, "add r2, r2, #48\n"));
}
[[gnu::naked, gnu::noipa]] void two_columns(int32_t*, const Quad*, const Quad*, uint32_t) {
  __asm__(KILOTUNE_COLUMNS(KILOTUNE_FIRST_COLUMN KILOTUNE_COLUMN, "add r2, r2, #24\n"));
}
[[gnu::naked, gnu::noipa]] void three_columns(int32_t*, const Quad*, const Quad*, uint32_t) {
  __asm__(KILOTUNE_COLUMNS(KILOTUNE_FIRST_COLUMN KILOTUNE_COLUMN KILOTUNE_COLUMN, ""));
}
constexpr Multiply* kMultiply[] = {one_column, two_columns, three_columns};

uint32_t halves(int32_t upper, int32_t lower) {
  return static_cast<uint32_t>(upper) << 16 | (static_cast<uint32_t>(lower) & 0xFFFFu);
}

// w: (3, 3, channels). Columns go from the last to the first, to match those of the output.
void spread_weights(const int8_t* w, uint32_t channels, Quad* out) {
  const uint32_t row = 3 * channels;
  for (uint32_t c = 0; c < channels; c += 4) {
    for (uint32_t k = 3; k-- > 0; ++out) {
      const int8_t* at = w + k * channels + c;
      const int8_t *newer = at + row, *older = newer + row;
      *out = {halves(older[0], newer[0]), halves(newer[1], older[1]), halves(at[1], at[0]),
              halves(older[2], newer[2]), halves(newer[3], older[3]), halves(at[3], at[2])};
    }
  }
}

class Triples {
 public:
  Triples(const Execution& run, const OpTraining& plan, const Tensor& y)
      : values_(reinterpret_cast<int32_t*>(run.arena + plan.scratch)),
        weights_(reinterpret_cast<Quad*>(values_ + y.channels)),
        rows_(weights_ + 3 * (y.channels / 4)),
        channels_(y.channels),
        width_(y.width) {
    clear_words(reinterpret_cast<int32_t*>(rows_), 6 * (channels_ / 4) * width_);
  }
  [[nodiscard]] Quad* weights() const { return weights_; }
  [[nodiscard]] int32_t* values() const { return values_; }
  // The next row of the output's gradient; null: beyond its last.
  void push(const int16_t* row) {
    // The memory of the values serves as a row of zeros.
    if (row == nullptr) clear_words(values_, channels_);
    for (uint32_t x = 0; x < width_; ++x) {
      const int16_t* m = row == nullptr ? reinterpret_cast<int16_t*>(values_) : row + x * channels_;
      push_column(rows_ + x, m, channels_ / 4, width_ * sizeof(Quad));
    }
  }
  // The values of the input position whose window at the output starts at column `first`, which may
  // be negative.
  void multiply(int32_t first) const {
    const int32_t width = static_cast<int32_t>(width_);
    const int32_t from = first < 0 ? 0 : first, to = first + 3 > width ? width : first + 3;
    if (from >= to) return clear_words(values_, channels_);
    const uint32_t count = static_cast<uint32_t>(to - from);
    kMultiply[count - 1](values_, rows_ + from, weights_ + (from - first),
                         (channels_ / 4 - 1) << 16 | (width_ - count) * sizeof(Quad));
  }

 private:
  int32_t* values_;  // (channels,)
  Quad* weights_;    // (channels / 4, 3)
  Quad* rows_;       // (channels / 4, width)
  uint32_t channels_, width_;
};

}  // namespace

bool backward_in_triples(const Execution& run, const Op& op, const Window& w, int exponent,
                         const int8_t* weights) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const OpTraining plan = run.model->op_training(op);
  Triples triples(run, plan, yt);
  spread_weights(weights, yt.channels, triples.weights());
  const int16_t* m = run.mantissas(yt);
  const uint32_t row = uint32_t{yt.width} * yt.channels;
  // Row `next` of the output is the newest to which input row next - pad contributed. It is read
  // before that row of the input, which may lie in the same place, is written.
  int32_t next = 0;
  const auto push_next = [&] {
    triples.push(next < w.y.out ? m + static_cast<uint32_t>(next) * row : nullptr);
    ++next;
  };
  while (next < w.y.pad) push_next();
  uint32_t position = 0;
  for (int32_t iy = 0; iy < w.y.in; ++iy) {
    push_next();
    for (int32_t ix = 0; ix < w.x.in; ++ix, ++position) {
      triples.multiply(ix + w.x.pad - 2);
      put_gradient(run, xt, position, triples.values(), exponent, plan.factor,
                   op.has(kAddsToInput));
    }
  }
  return true;
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
