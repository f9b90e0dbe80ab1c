// Adam (Kingma and Ba, 2015) with a state of two bytes per parameter: the logarithm of the root of
// the mean square gradient, and the mean gradient over that root (docs/SPEC.md, 1.5). Linked only
// where a table of operators lists kAdam.
#ifndef KILOTUNE_KERNEL_OPS_ADAM_H_
#define KILOTUNE_KERNEL_OPS_ADAM_H_

#include <cstdint>

#include "kernel/fixed_point.h"
#include "kernel/random.h"
#include "kernel/status.h"

namespace kilotune {

constexpr uint8_t kAdamOpcode = 31;     // kAdam's place among operators; no op has it
constexpr uint16_t kAdamBeta1 = 29491;  // 0.9 in Q15, where a configuration names no momentum
constexpr int kAdamMemory = 10;         // beta2 = 1 - 2^-10

class Model;
struct AdamKernel;
struct Execution;
struct Op;
struct OpTraining;
struct Step;
struct ValueRange;

// What one training step needs of it.
struct Adam {
  const AdamKernel* kernel = nullptr;
  uint16_t beta1_q15 = 0;
  uint32_t powers_q31[2] = {0, 0};  // beta1^t and beta2^t
  Real correction;                  // sqrt(1 - beta2^t) / (1 - beta1^t)
  // Of the op whose parameters are updated:
  Real bias_unit, weight_unit;  // 1 / C and 1 / (C * scale of the input)
  int32_t unit_log2_q16 = 0;    // log2 C
};

struct AdamKernel {
  // What an image needs for it.
  Status (*check)(const Model& model);
  void (*begin)(Adam& adam, uint16_t beta1_q15);
  void (*advance)(Adam& adam);  // to the next step
  // To the op whose parameters are updated next.
  void (*enter)(Adam& adam, const Model& model, const Op& op);
  // Updates int32 deltas of biases that share `rate`, the learning rate over the value of one unit
  // of theirs; the other two do as update_weights and update_values (kernel/ops/update.h).
  void (*biases)(int32_t* delta, uint8_t* state, const int16_t* mantissa, uint32_t count,
                 int exponent, Real rate, Step& step);
  void (*weights)(const Execution& run, const Op& op, const OpTraining& plan, uint32_t out,
                  uint32_t in, const int16_t* mantissa, int exponent, const int8_t* x,
                  int32_t zero_point, Step& step);
  void (*values)(int16_t* values, int16_t* state, const int32_t* gradient, uint32_t n, int exponent,
                 Real factor, const ValueRange& range, Step& step);
};

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_ADAM_H_
