// The smallest program that trains: biases of dense layers, by squared error. Its linked size is
// the kernel's.
#include "kernel/trainer.h"

using namespace kilotune;

extern "C" const uint8_t model_image[4];
extern "C" const uint32_t model_image_bytes;
const uint8_t model_image[4] = {};
const uint32_t model_image_bytes = sizeof model_image;

namespace {

const OpKernel* const kOperators[] = {&kDenseBiases, nullptr};
alignas(4) uint8_t arena[1024], adapter[512];
Model model;
Trainer trainer;

}  // namespace

int main() {
  if (model.open(model_image, model_image_bytes, kOperators) != Status::ok) return 1;
  if (trainer.open(model, arena, adapter, {}, kPlainSquaredError) != Status::ok) return 1;
  if (trainer.begin({make_real(1, -6), {}}) != Status::ok) return 1;
  while (trainer.step({}) == Status::ok) {
  }
  return 1;
}
