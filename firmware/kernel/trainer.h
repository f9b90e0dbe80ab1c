// Runs a model forward and trains it, one window at a time, in memory that the caller owns.
#ifndef KILOTUNE_KERNEL_TRAINER_H_
#define KILOTUNE_KERNEL_TRAINER_H_

#include <cstdint>

#include "kernel/loss.h"
#include "kernel/model.h"
#include "kernel/ops/op.h"

namespace kilotune {

// Stochastic gradient descent on the adapter's parameters in real units (a bias of 1.0 is 1.0):
//   v = momentum * v + mean gradient over `accumulate` windows
//   p = p - rate * v - rate * decay * (p - base)
// An image for Adam (Kingma and Ba, 2015; decay apart from the gradient: Loshchilov and Hutter,
// 2019): p = p - rate * m / sqrt(v) - rate * decay * (p - base) with the bias-corrected means m of
// the gradient (beta1 = momentum, 0.9 where that is 0) and v of its square (beta2 = 1 - 2^-10).
struct TrainConfig {
  Real rate;                  // learning rate
  Real decay;                 // weight decay towards the base model, 0: none
  uint16_t momentum_q15 = 0;  // 0 to 32767; needs an image with optimiser state
  uint16_t accumulate = 1;    // windows per step; above 1 needs an image with optimiser state
  uint32_t seed = 1;          // of the stochastic rounding
};

// What a program can train with: it links only what the Methods name that its trainer opens with.
struct Methods {
  uint64_t (*loss)(const Execution& run, const Training& training, const Target& target);
  void (*gradient)(const Execution& run, const Training& training, const Target& target);
  bool classifies;   // knows cross-entropy
  ChangeRule* rule;  // null: no momentum, accumulation or decay
};
extern const Methods kAllMethods;
// Autoencoders and regression by plain gradient descent, for less code.
extern const Methods kPlainSquaredError;

class Trainer {
 public:
  // All memory is 4-aligned: `arena` of model.arena_bytes, `adapter` of model.adapter_bytes,
  // `state` of model.state_bytes (null if 0). The adapter's parameters stay as they are: see
  // reset_parameters(). Never fails with kAllMethods.
  Status open(const Model& model, uint8_t* arena, uint8_t* adapter, uint8_t* state,
              const Observer* observer = nullptr) {
    return open(model, arena, adapter, state, kAllMethods, observer);
  }
  // Refuses an image whose training needs more than `methods`: unsupported_op.
  [[nodiscard]] Status open(const Model& model, uint8_t* arena, uint8_t* adapter, uint8_t* state,
                            const Methods& methods, const Observer* observer = nullptr);

  // Sets every trained parameter back to the base model's.
  void reset_parameters();

  // Copies the trained parameters of another adapter of this model.
  void copy_parameters(const uint8_t* adapter);
  // Whether all trained parameters of `adapter` are in range.
  [[nodiscard]] bool parameters_valid(const uint8_t* adapter) const;

  // Validates `config` and starts counting steps from 0. not_trainable: the image is for inference.
  // bad_argument: a field is out of range, or the image has no state, or `methods` no code, for it.
  [[nodiscard]] Status begin(const TrainConfig& config);

  [[nodiscard]] int8_t* input() { return run_.data(model_->tensor(model_->input)); }
  [[nodiscard]] const int8_t* output() const { return run_.data(model_->tensor(model_->output)); }

  // Scales the learning rate from the next step on, for schedules; begin() sets it back to 1.
  void scale_rate(Real factor);

  // One forward pass over what input() holds. `recording`: for a training step, up to the loss.
  void forward(bool recording = false);
  // One training step on input(). The same (parameters, input, step count, seed) gives the same
  // bits.
  void step(const Target& target);
  // Loss of the present parameters on input(), in the units of loss_value(); runs forward.
  [[nodiscard]] uint64_t loss(const Target& target);

  // Since begin(): windows trained on, and updates that a parameter's range has clipped.
  [[nodiscard]] uint32_t steps() const { return steps_; }
  [[nodiscard]] uint32_t saturated() const { return saturated_; }
  [[nodiscard]] const Execution& execution() const { return run_; }

 private:
  void run_op(uint16_t index, bool recording);

  const Model* model_ = nullptr;
  const Methods* methods_ = nullptr;
  Execution run_{};
  Training training_{};
  TrainConfig config_{{}, {}, 0, 0, 0};  // zeros take no room in a program
  Real step_rate_, step_decay_;
  Adam adam_;  // its kernel is null where the image does not use it
  uint32_t steps_ = 0, saturated_ = 0;
};

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_TRAINER_H_
