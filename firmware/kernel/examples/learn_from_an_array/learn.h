// Learning without files, heap or operating system: model.h holds the model image as an array.
#include <kilotune.h>

#include <cstring>

#include "model.h"

// The caller owns all memory; model.h says how much of it the model needs.
alignas(4) static uint8_t arena[kModelArenaBytes], adapter[kModelAdapterBytes];

// A firmware holds the operators that it names here, and no others.
static const kilotune::OpKernel* const kOps[] = {&kilotune::kFullyConnected, nullptr};

struct Losses {
  kilotune::Status status;
  uint32_t before, after;
};

// Trains the biases of an autoencoder for 200 steps on two patterns that are new to it.
inline Losses learn() {
  using kilotune::Status;
  static kilotune::Model model;
  static kilotune::Trainer trainer;
  const int8_t patterns[2][12] = {{40, 60, 70, 60, 40, 10, -20, -40, -50, -40, -20, 10},
                                  {-30, 20, 60, 20, -30, -60, -30, 20, 60, 20, -30, -60}};
  const kilotune::TrainConfig config = {kilotune::make_real(1, -3), {}};  // rate 1 * 2^-3
  Status status = model.open(kModel, sizeof kModel, kOps);
  if (status == Status::ok) status = trainer.open(model, arena, adapter, {});
  if (status == Status::ok) status = trainer.begin(config);
  if (status != Status::ok) return {status, 0, 0};

  const auto show = [&](int i) { std::memcpy(trainer.input(), patterns[i], kModelInputBytes); };
  const auto loss = [&](int i) {
    uint64_t value = 0;
    if (status == Status::ok) show(i), status = trainer.loss({}, value);
    return static_cast<uint32_t>(value >> 16);
  };
  const uint32_t before = loss(0) + loss(1);
  for (int i = 0; i < 200 && status == Status::ok; ++i) show(i % 2), status = trainer.step({});
  const uint32_t after = loss(0) + loss(1);
  return {status, before, after};
}
