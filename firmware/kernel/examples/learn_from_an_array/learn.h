// Learning without files, heap or operating system: model.h holds the model image as an array.
#include <kilotune.h>

#include <cstring>

#include "model.h"

// The caller owns all memory; model.h says how much of it the model needs.
alignas(4) static uint8_t arena[kModelArenaBytes];
alignas(4) static uint8_t adapter[kModelAdapterBytes];

// A firmware holds the operators that it names here, and no others.
static const kilotune::OpKernel* const kOps[] = {&kilotune::kFullyConnected, nullptr};

struct Losses {
  kilotune::Status status;
  uint32_t before, after;
};

// Trains the biases of an autoencoder for 200 steps on two patterns that are new to it.
inline Losses learn() {
  static kilotune::Model model;
  static kilotune::Trainer trainer;
  const int8_t patterns[2][12] = {{40, 60, 70, 60, 40, 10, -20, -40, -50, -40, -20, 10},
                                  {-30, 20, 60, 20, -30, -60, -30, 20, 60, 20, -30, -60}};
  const auto show = [&](int i) { std::memcpy(trainer.input(), patterns[i], kModelInputBytes); };
  const auto loss = [&](int i) { return show(i), static_cast<uint32_t>(trainer.loss({}) >> 16); };

  kilotune::Status status = model.open(kModel, sizeof kModel, kOps);
  if (status == kilotune::Status::ok) status = trainer.open(model, arena, adapter, nullptr);
  if (status != kilotune::Status::ok) return {status, 0, 0};
  trainer.reset_parameters();
  kilotune::TrainConfig config;
  config.rate = kilotune::make_real(1, -3);  // 1 * 2^-3
  status = trainer.begin(config);
  if (status != kilotune::Status::ok) return {status, 0, 0};

  const uint32_t before = loss(0) + loss(1);
  for (int step = 0; step < 200; ++step) show(step % 2), trainer.step({});
  return {status, before, loss(0) + loss(1)};
}
