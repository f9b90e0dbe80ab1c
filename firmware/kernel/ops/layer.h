// What operators with positions share: trained biases, writing outputs with their pass mask, and
// checks of the fields that layers with parameters have in common.
#ifndef KILOTUNE_KERNEL_OPS_LAYER_H_
#define KILOTUNE_KERNEL_OPS_LAYER_H_

#include <cstdint>

#include "kernel/ops/op.h"

namespace kilotune {

// Bias of channel o with what training added to it, in the accumulator's unit.
class Biases {
 public:
  Biases(const Execution& run, const Op& op) : bias_(aligned4(run.model->at(op.bias))) {
    if (!op.has(kBiasTrained)) return;
    delta_ = reinterpret_cast<const int32_t*>(run.adapter + op.bias_param);
    shift_ = run.model->bias_fraction_bits(op);
  }
  [[nodiscard]] int32_t at(uint32_t o) const {
    const int32_t base = load_i32(bias_ + 4 * o);
    return delta_ == nullptr ? base : base + ((delta_[o] + (1 << (shift_ - 1))) >> shift_);
  }

 private:
  const uint8_t* bias_;
  const int32_t* delta_ = nullptr;
  int shift_ = 1;
};

// Multiplier and shift of each channel, or one for all.
class Scaling {
 public:
  Scaling(const Execution& run, const Op& op)
      : multiplier_(aligned4(run.model->at(op.multipliers))),
        shift_(reinterpret_cast<const int8_t*>(run.model->at(op.shifts))),
        stride_(op.has(kPerChannel) ? 1 : 0) {}
  [[nodiscard]] int32_t multiplier(uint32_t o) const {
    return load_i32(multiplier_ + 4 * o * stride_);
  }
  [[nodiscard]] int shift(uint32_t o) const { return shift_[o * stride_]; }
  [[nodiscard]] int32_t apply(uint32_t o, int32_t acc) const {
    return requantise(acc, multiplier(o), shift(o));
  }

 private:
  const uint8_t* multiplier_;
  const int8_t* shift_;
  uint32_t stride_;
};

// Writes an output, position after position and channel after channel, and its pass mask.
class Outputs {
 public:
  Outputs(const Execution& run, const Op& op, const Tensor& y, bool training)
      : y_(run.data(y)),
        mask_(run.recorded_mask(op, y, training)),
        channels_(y.channels),
        zero_point_(y.zero_point),
        low_(op.act_min),
        high_(op.act_max) {}

  // A value relative to the zero point, any int32.
  void put(int32_t scaled) { put_q(clamp(scaled, -512, 512) + zero_point_); }
  void put_q(int32_t value) {
    const int32_t q = clamp(value, low_, high_);
    *y_++ = static_cast<int8_t>(q);
    if (mask_ != nullptr) record(q > low_ && q < high_);
  }

 private:
  void record(bool passes) {
    bits_ |= (passes ? 1u : 0u) << (channel_ & 7u);
    ++channel_;
    if ((channel_ & 7u) == 0 || channel_ == channels_) {
      *mask_++ = static_cast<uint8_t>(bits_);
      bits_ = 0;
    }
    if (channel_ == channels_) channel_ = 0;
  }

  int8_t* y_;
  uint8_t* mask_;
  uint32_t channels_, channel_ = 0, bits_ = 0;
  int32_t zero_point_, low_, high_;
};

// An operator without parameters: where it has a training entry, it propagates to an input;
// `inputs`: flags of the inputs that it may propagate to.
inline bool only_passes_gradients(const Op& op, uint8_t inputs = kBackwardToInput) {
  return !op.has(kBiasTrained) && !op.has(kWeightsTrained) &&
         (op.training == 0 || (op.flags & inputs) != 0);
}

// Checks the fields of a layer with `weights` int8 weights and `products` of two int8 per output.
Status check_layer(const Model& model, const Op& op, uint64_t weights, uint32_t products);
// A number of products of a layer whose fields are not checked yet.
inline uint32_t products_of(uint64_t n) {
  return n > kMaxFanIn ? kMaxFanIn + 1 : static_cast<uint32_t>(n);
}
// Whether the arena has `bytes` at `offset`, which must be a multiple of 4.
bool scratch_holds(const Model& model, uint32_t offset, uint64_t bytes);
// Whether the op has the `bytes` of scratch that it needs where gradients propagate to an input.
bool backward_scratch_holds(const Model& model, const Op& op, uint64_t bytes);
// Whether a layer has its factors R wherever gradients pass channels of different scales.
bool rescale_valid(const Model& model, const Op& op);

// Trained int16 weights with 8 bits below the base model's int8: where they start, and whether
// `values` (bytes) are in the range that training keeps.
void start_weights(const int8_t* base, uint32_t n, int16_t* values);
bool weights_in_range(const int8_t* base, uint32_t n, const uint8_t* values);
void add_change(const int8_t* base, uint32_t n, const uint8_t* values, WeightChange& sum);

// m'(o) = m(o) * s_w(o) / max s_w in place, at all positions of the output's gradient.
void rescale_gradient(const Execution& run, const OpTraining& plan, const Tensor& y);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_LAYER_H_
