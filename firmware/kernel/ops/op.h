// The interface of an operator: one file per operator, listed in the table that the model opens
// with.
#ifndef KILOTUNE_KERNEL_OPS_OP_H_
#define KILOTUNE_KERNEL_OPS_OP_H_

#include <cstdint>

#include "kernel/model.h"
#include "kernel/ops/adam.h"
#include "kernel/random.h"

namespace kilotune {

// Compiled for size: only the general code, even where the usual case has faster code; same bits.
#ifdef __OPTIMIZE_SIZE__
constexpr bool kSmallCode = true;
#else
constexpr bool kSmallCode = false;
#endif

// Optional, for tests and tools: sees each tensor and each gradient when it is complete.
struct Observer {
  void* context;
  // Called a second time for ops that run again for the backward pass.
  void (*tensor)(void* context, uint16_t tensor, const int8_t* data);
  // Gradient at an op's output, before its backward pass and before what runs again for it:
  // mantissas (positions, channels), one exponent per position.
  void (*gradient)(void* context, uint16_t op, const int16_t* mantissa, const int16_t* exponent);
};

struct Step;
// What to add to a parameter with momentum, accumulation and decay: general_change() in update.h.
using ChangeRule = int32_t(int32_t change, int32_t* state, int32_t limit, int32_t distance,
                           Step& step);

// How a training step changes parameters; fixed for one step.
struct Step {
  Real rate;              // learning rate / accumulated windows
  Real decay;             // learning rate * weight decay
  uint16_t momentum_q15;  // 0: none
  bool first, last;       // of the accumulated windows
  Random random{0};
  uint32_t saturated = 0;      // parameters that hit their range
  const Adam* adam = nullptr;  // null: plain gradient descent, or momentum
  ChangeRule* rule = nullptr;  // null: plain gradient descent alone
};

// Everything an operator touches.
struct Execution {
  const Model* model;
  uint8_t* arena;
  uint8_t* adapter;
  uint8_t* state;  // optimiser state, null where the image has none
  const Observer* observer;

  [[nodiscard]] int8_t* data(const Tensor& t) const {
    return reinterpret_cast<int8_t*>(arena + t.data);
  }
  [[nodiscard]] uint8_t* mask(const Tensor& t) const {
    return t.mask == kNone ? nullptr : arena + t.mask;
  }
  // Where the pass mask of an op's output goes; null where none is recorded.
  [[nodiscard]] uint8_t* recorded_mask(const Op& op, const Tensor& y, bool training) const {
    return training && op.has(kRecordsMask) ? mask(y) : nullptr;
  }
  [[nodiscard]] int16_t* exponents(const Tensor& t) const {
    return reinterpret_cast<int16_t*>(arena + t.gradient);
  }
  // Mantissas follow the exponents at the next multiple of 4.
  [[nodiscard]] int16_t* mantissas(const Tensor& t) const {
    return exponents(t) + ((t.positions() + 1) & ~1u);
  }
};

// How far trained weights have moved from the base model's: sums of squares over the trained rows.
// In 1/256 of an int8 step: a difference is below 2^16, its square below 2^32.
struct WeightChange {
  void add(int32_t from, int32_t to) {
    const uint32_t by = static_cast<uint32_t>(to > from ? to - from : from - to);
    moved += static_cast<uint64_t>(by) * by;
    size += static_cast<uint32_t>(from * from);
  }
  uint64_t moved = 0, size = 0;
};

// What an operator trains beside biases: int16 values at Op::weight_param of the adapter.
struct TrainedWeights {
  uint32_t (*count)(const Model& model, const Op& op);
  // The base model's values, to `values` (count,).
  void (*reset)(const Model& model, const Op& op, int16_t* values);
  // Whether all of `values`, little-endian bytes, are in the range that training keeps.
  bool (*valid)(const Model& model, const Op& op, const uint8_t* values);
  // What `values` have changed, which are valid.
  WeightChange (*change)(const Model& model, const Op& op, const uint8_t* values);
};

struct OpKernel {
  uint8_t opcode;
  // Checks everything that execution relies on; the tensors themselves are already checked.
  Status (*validate)(const Model& model, const Op& op);
  // `training`: also record the pass mask of the output, where op.flags asks for it.
  void (*forward)(const Execution& run, const Op& op, bool training);
  // The output's gradient is in place; updates parameters and, where op.flags asks, writes the
  // input's gradient. Null: no backward.
  void (*backward)(const Execution& run, const Op& op, Step& step);
  // Null: none of its weights can be trained.
  const TrainedWeights* weights = nullptr;
  // Only for kAdam, which is no operator: a program whose table lists it can train with Adam.
  const AdamKernel* adam = nullptr;
};

extern const OpKernel kFullyConnected;
// May take its place, with less code: no trained weights, no sums of gradients, one position
// (unsupported_op otherwise).
extern const OpKernel kDenseBiases;
extern const OpKernel kSoftmax;
extern const OpKernel kConv2D;
extern const OpKernel kDepthwiseConv2D;
extern const OpKernel kAveragePool2D;
extern const OpKernel kMaxPool2D;
extern const OpKernel kMean;
extern const OpKernel kLookup;
extern const OpKernel kAdd;
extern const OpKernel kMul;
extern const OpKernel kConcatenation;
extern const OpKernel kGather;
extern const OpKernel kReshape;
extern const OpKernel kTransposeConv;
extern const OpKernel kAdaptedLayer;
extern const OpKernel kLstm;
extern const OpKernel kAdam;

// Exponent of a position whose mantissas are all 0, where there are several: below any other.
constexpr int16_t kZeroExponent = -32768;
// The largest of a gradient's exponents (positions,).
[[nodiscard]] int largest_exponent(const int16_t* exponents, uint32_t positions);

// Turns one position's int32 values, which lie where its mantissas go, into mantissas and exponent.
// Values outside the tensor's pass mask become 0 first. `exponent` is added to the result's.
void store_gradient(const Execution& run, const Tensor& t, uint32_t position, int32_t* values,
                    int exponent);

// Parts of store_gradient: the exponent of mantissas of `bits` bits, from the largest magnitude (v
// or ~v, not 0); whether rounding would carry that one into one more bit (it is clamped instead);
// one mantissa.
inline int mantissa_shift(uint32_t largest, int bits) { return 32 - __builtin_clz(largest) - bits; }
inline bool rounding_carries(uint32_t largest, int shift, int bits) {
  return shift > 0 && ((largest >> (shift - 1)) + 1) >> 1 == 1u << bits;
}
[[nodiscard]] int32_t to_mantissa(int32_t v, int shift, int bits);

// As store_gradient, for values that lie elsewhere and may be changed, times `factor` (mantissa 0:
// 2^exponent); `add`: to the gradient that is already there.
void put_gradient(const Execution& run, const Tensor& t, uint32_t position, int32_t* values,
                  int exponent, Real factor, bool add);

// round(m / 2^d), d >= 0 in any plan that makes sense: brings a mantissa to a larger exponent.
inline int32_t align_mantissa(int32_t m, int d) {
  return d <= 0 ? m : (d > 16 ? 0 : (m + (1 << (d - 1))) >> d);
}
// Sums stay in int32 by the planner's mantissa widths; whatever an image claims, they never trap.
inline int32_t add_wrapping(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_OP_H_
