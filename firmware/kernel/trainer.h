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
  // `arena` of model.arena_bytes at least, `adapter` of model.adapter_bytes, `state` of
  // model.state_bytes. Every trained parameter becomes the base model's. Refused, and nothing is
  // written: no_memory, a block is too short; bad_argument, one is null or not at a multiple of 4,
  // or the model is not open. The trainer is closed then: calls give wrong_state, places null.
  [[nodiscard]] Status open(const Model& model, const Memory& arena, const Memory& adapter,
                            const Memory& state, const Observer* observer = nullptr) {
    return open(model, arena, adapter, state, kAllMethods, observer);
  }
  // Refuses an image whose training needs more than `methods`, too: unsupported_op.
  [[nodiscard]] Status open(const Model& model, const Memory& arena, const Memory& adapter,
                            const Memory& state, const Methods& methods,
                            const Observer* observer = nullptr);
  void close() { run_.model = nullptr; }

  // Sets every trained parameter back to the base model's. Ends training, as other parameters do.
  [[nodiscard]] Status reset_parameters();
  // Takes over the trained parameters of another adapter of this model, `bytes` long. bad_argument:
  // they are not valid, and the present ones stay.
  [[nodiscard]] Status copy_parameters(const uint8_t* adapter, uint32_t bytes);
  // Whether `adapter` has the right length, and all of its trained parameters are in range.
  [[nodiscard]] bool parameters_valid(const uint8_t* adapter, uint32_t bytes) const;

  // Validates `config` and starts counting steps from 0. not_trainable: the image is for inference.
  // bad_argument: a field is out of range, nothing would be learned, or the image has no state, or
  // `methods` no code, for it. Where it refuses, no training is under way.
  [[nodiscard]] Status begin(const TrainConfig& config);
  // Steps need another begin() from now on.
  void end() { config_.accumulate = 0; }

  // Null while closed.
  [[nodiscard]] int8_t* input();
  [[nodiscard]] const int8_t* output() const;

  // Scales the learning rate from the next step on, for schedules; begin() sets it back to 1.
  // wrong_state: no training is under way.
  [[nodiscard]] Status scale_rate(Real factor);

  // One forward pass over what input() holds. `recording`: for a training step, up to the loss.
  [[nodiscard]] Status forward(bool recording = false);
  // One training step on input(). The same (parameters, input, step count, seed) gives the same
  // bits. wrong_state: no training is under way; bad_argument: `target` is not one for this loss.
  [[nodiscard]] Status step(const Target& target);
  // Loss of the present parameters on input(), in the units of loss_value(); runs forward. `out` is
  // untouched where it refuses: not_trainable, bad_argument as step().
  [[nodiscard]] Status loss(const Target& target, uint64_t& out);

  // Since begin(): windows trained on, and updates that a parameter's range has clipped.
  [[nodiscard]] uint32_t steps() const { return steps_; }
  [[nodiscard]] uint32_t saturated() const { return saturated_; }
  [[nodiscard]] const Execution& execution() const { return run_; }

 private:
  [[nodiscard]] Status trains() const;
  [[nodiscard]] Status check(const Target& target) const;
  [[nodiscard, gnu::noinline]] int8_t* place(uint16_t Model::*tensor) const;
  void run(uint32_t first, uint32_t end, bool recording);

  // Narrow fields first: they are read with short instructions near the start only.
  Training training_{};
  // Zeros take no room in a program; accumulate 0: no training is under way.
  TrainConfig config_{{}, {}, 0, 0, 0};
  uint16_t outputs_ = 0;  // values of the loss tensor; 0: closed, or the image is for inference
  Execution run_{};       // its model is null while the trainer is closed
  const Methods* methods_ = nullptr;
  Real step_rate_, step_decay_;
  Adam adam_;  // its kernel is null where the image does not use it
  uint32_t steps_ = 0, saturated_ = 0;
};

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_TRAINER_H_
