// Checks of layers with parameters, and the rescaling of their gradients.
#include "kernel/ops/layer.h"

namespace kilotune {

Status check_layer(const Model& model, const Op& op, uint64_t weights, uint32_t products) {
  const Bytes& image = model.image();
  const uint32_t out = model.tensor(op.output).channels;
  const uint32_t scales = op.has(kPerChannel) ? out : 1;
  if (op.has(kWeightsTrained)) products *= 2;  // their inputs are not folded
  const bool good = products - 1 < kMaxFanIn && weights <= image.size &&
                    image.holds(op.weights, static_cast<uint32_t>(weights), 1) &&
                    image.holds(op.bias, out, 4) && image.holds(op.multipliers, scales, 4) &&
                    image.holds(op.shifts, scales, 1);
  if (!good) return Status::bad_image;
  // What products leave of the accumulator, 2^29 at least, and training of that, 2^28 at least.
  uint32_t room = kAccumulatorMax - (products << 14);
  if (op.has(kBiasTrained)) room -= 1u << (30 - model.bias_fraction_bits(op));
  for (uint32_t o = out; o-- != 0;) {  // -room < bias < room, in one comparison
    const uint32_t b = load_u32(model.at(op.bias) + 4 * o);
    if (b + room - 1 >= 2 * room - 1) return Status::bad_image;
  }
  for (uint32_t o = scales; o-- != 0;) {
    const int8_t shift = static_cast<int8_t>(*model.at(op.shifts + o));
    const uint32_t multiplier = load_u32(model.at(op.multipliers) + 4 * o);
    if ((multiplier >> 30 != 1 && multiplier != 0) || shift < -31 || shift > 30)
      return Status::bad_image;
  }
  return rescale_valid(model, op) ? Status::ok : Status::bad_image;
}

bool scratch_holds(const Model& model, uint32_t offset, uint64_t bytes) {
  return bytes <= model.arena_bytes &&
         holds(model.arena_bytes, offset, static_cast<uint32_t>(bytes), 1);
}

bool backward_scratch_holds(const Model& model, const Op& op, uint64_t bytes) {
  if (!op.has(kBackwardToInput) && !op.has(kBackwardToInput2)) return true;
  return scratch_holds(model, model.op_training(op).scratch, bytes);
}

bool rescale_valid(const Model& model, const Op& op) {
  if (op.training == 0) return true;
  const OpTraining t = model.op_training(op);
  if (!op.has(kBackwardToInput) && t.rescale == 0) return true;
  if (op.has(kPerChannel) != (t.rescale != 0)) return false;
  for (uint32_t o = 0; t.rescale != 0 && o < model.tensor(op.output).channels; ++o) {
    if (load_u16(model.at(t.rescale) + 2 * o) > 32768) return false;
  }
  return true;
}

void start_weights(const int8_t* base, uint32_t n, int16_t* values) {
  // The fraction starts in the middle, so that >> 8 gives the base weight until half an LSB.
  for (uint32_t k = 0; k < n; ++k) values[k] = static_cast<int16_t>(base[k] * 256 + 128);
}

bool weights_in_range(const int8_t* base, uint32_t n, const uint8_t* values) {
  for (uint32_t k = 0; k < n; ++k) {
    const int32_t w = load_i16(values + 2 * k);
    // A base weight of -128 lies below what training reaches, and stays until training moves it.
    const int32_t low = base[k] == -128 ? -128 * 256 : kWeightParamMin;
    if (w < low || w > kWeightParamMax) return false;
  }
  return true;
}

void add_change(const int8_t* base, uint32_t n, const uint8_t* values, WeightChange& sum) {
  // The middle of an int8 step is its value.
  for (uint32_t k = 0; k < n; ++k) sum.add(base[k] * 256, load_i16(values + 2 * k) - 128);
}

void rescale_gradient(const Execution& run, const OpTraining& plan, const Tensor& y) {
  if (plan.rescale == 0) return;
  const uint8_t* r = aligned4(run.model->at(plan.rescale));
  int16_t* m = run.mantissas(y);
  for (uint32_t p = 0; p < y.positions(); ++p, m += y.channels) {
    for (uint32_t o = 0; o < y.channels; ++o)
      m[o] = static_cast<int16_t>((m[o] * load_u16(r + 2 * o) + (1 << 14)) >> 15);
  }
}

}  // namespace kilotune
