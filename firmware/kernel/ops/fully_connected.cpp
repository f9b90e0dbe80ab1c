// FULLY_CONNECTED: y = clamp(zero_point + requantise(W x + b)), and its gradients.
#include "kernel/ops/dense.h"
#include "kernel/ops/layer.h"
#include "kernel/ops/update.h"

namespace kilotune {
namespace {

constexpr int32_t kBiasMax = 1 << 28;  // |bias|: see kMaxFanIn

const int8_t* frozen_weights(const Model& model, const Op& op) {
  return reinterpret_cast<const int8_t*>(model.at(op.weights));
}

// The widest mantissa must not overflow the sum over any column of weights.
bool columns_fit(const int8_t* w, uint32_t out, uint32_t in, int mantissa_bits, bool trained) {
  const uint64_t limit = (1ull << 31) >> mantissa_bits;  // sum of |w| must stay below
  if (trained) return 127ull * out < limit;
  for (uint32_t i = 0; i < in; ++i) {
    uint64_t norm = 0;
    for (uint32_t o = 0; o < out; ++o)
      norm += static_cast<uint64_t>(w[o * in + i] < 0 ? -w[o * in + i] : w[o * in + i]);
    if (norm >= limit) return false;
  }
  return true;
}

Status validate(const Model& model, const Op& op) {
  const Bytes& image = model.image();
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const uint32_t out = y.channels, in = x.elements();
  const uint32_t scales = op.has(kPerChannel) ? out : 1;
  if (y.positions() != 1 || in > kMaxFanIn) return Status::bad_image;
  if (!image.holds(op.weights, out * in, 1, 4) || uint64_t{out} * in > image.size)
    return Status::bad_image;
  if (!image.holds(op.bias, out, 4, 4)) return Status::bad_image;
  if (!image.holds(op.multipliers, scales, 4, 4) || !image.holds(op.shifts, scales, 1, 4)) {
    return Status::bad_image;
  }
  for (uint32_t o = 0; o < out; ++o) {
    const int32_t b = load_i32(model.at(op.bias) + 4 * o);
    if (b < -kBiasMax || b > kBiasMax) return Status::bad_image;
  }
  for (uint32_t o = 0; o < scales; ++o) {
    const int8_t shift = static_cast<int8_t>(*model.at(op.shifts + o));
    if (load_i32(model.at(op.multipliers) + 4 * o) < 0 || shift < -31 || shift > 30)
      return Status::bad_image;
  }
  if (op.has(kWeightsTrained)) {
    const Bytes adapter = {nullptr, model.adapter_bytes}, state = {nullptr, model.state_bytes};
    if (!adapter.holds(op.weight_param, out * in, 2, 4)) return Status::bad_image;
    const OpTraining t = model.op_training(op);
    if (t.weight_state != kNone && !state.holds(t.weight_state, out * in, 2, 4))
      return Status::bad_image;
  }
  if (op.has(kBackwardToInput)) {
    const OpTraining t = model.op_training(op);
    if (op.has(kPerChannel) != (t.rescale != 0)) return Status::bad_image;
    if (t.scratch != kNone ? !scratch_holds(model, t.scratch, 4ull * x.channels)
                           : x.positions() != 1 || op.has(kAddsToInput) || !t.factor.is_zero())
      return Status::bad_image;
    for (uint32_t o = 0; t.rescale != 0 && o < out; ++o) {
      if (load_u16(model.at(t.rescale) + 2 * o) > 32768) return Status::bad_image;
    }
    if (!columns_fit(frozen_weights(model, op), out, in, y.mantissa_bits,
                     op.has(kWeightsTrained))) {
      return Status::bad_image;
    }
  }
  return Status::ok;
}

// What training adds to the bias of channel o, in the accumulator's unit, rounded half up.
class BiasDelta {
 public:
  BiasDelta(const Execution& run, const Op& op) {
    if (!op.has(kBiasTrained)) return;
    delta_ = reinterpret_cast<const int32_t*>(run.adapter + op.bias_param);
    shift_ = run.model->op_training(op).bias_fraction_bits;
  }
  [[nodiscard]] int32_t at(uint32_t o) const {
    return delta_ == nullptr ? 0 : (delta_[o] + (1 << (shift_ - 1))) >> shift_;
  }

 private:
  const int32_t* delta_ = nullptr;
  int shift_ = 1;
};

// Turns accumulators into outputs, one channel after the other, and collects the pass mask.
class Finish {
 public:
  Finish(const Execution& run, const Op& op, const Tensor& yt, bool training)
      : y_(run.data(yt)),
        mask_(training && op.has(kRecordsMask) ? run.mask(yt) : nullptr),
        multiplier_(aligned4(run.model->at(op.multipliers))),
        shift_(reinterpret_cast<const int8_t*>(run.model->at(op.shifts))),
        stride_(op.has(kPerChannel) ? 1 : 0),
        zero_point_(yt.zero_point),
        low_(op.act_min),
        high_(op.act_max) {}

  void put(uint32_t o, int32_t acc) {
    const int32_t scaled =
        requantise(acc, load_i32(multiplier_ + 4 * o * stride_), shift_[o * stride_]);
    // |scaled| < 2^31 - 2^7 for a right shift; a left shift may saturate.
    const int32_t q = clamp(clamp(scaled, -512, 512) + zero_point_, low_, high_);
    y_[o] = static_cast<int8_t>(q);
    if (mask_ == nullptr) return;
    bits_ = (bits_ >> 1) | (q > low_ && q < high_ ? 0x80u : 0u);
    if ((o & 7u) == 7u) mask_[o >> 3] = static_cast<uint8_t>(bits_);
  }
  // After the last of `out` channels: the mask's unfinished byte.
  void flush(uint32_t out) {
    if (mask_ != nullptr && (out & 7u) != 0)
      mask_[out >> 3] = static_cast<uint8_t>((bits_ & 0xFFu) >> (8 - (out & 7u)));
  }

 private:
  int8_t* y_;
  uint8_t* mask_;
  const uint8_t* multiplier_;
  const int8_t* shift_;
  uint32_t stride_;
  int32_t zero_point_, low_, high_;
  uint32_t bits_ = 0;
};

void forward(const Execution& run, const Op& op, bool training) {
  const Model& model = *run.model;
  const Tensor xt = model.tensor(op.input), yt = model.tensor(op.output);
  const int8_t* x = run.data(xt);
  const uint32_t in = xt.elements(), out = yt.channels;
  const uint8_t* bias = aligned4(model.at(op.bias));
  const BiasDelta delta(run, op);
  Finish finish(run, op, yt, training);
  uint32_t o = 0;
  if (op.has(kWeightsTrained)) {
    const int16_t* w = reinterpret_cast<const int16_t*>(run.adapter + op.weight_param);
    for (; o < out; ++o, w += in) {
      finish.put(o, load_i32(bias + 4 * o) + delta.at(o) + dot_trained(w, x, xt.zero_point, in));
    }
  } else {
    const int8_t* w = frozen_weights(model, op);
    for (; o + 4 <= out; o += 4, w += 4 * in) {
      int32_t sums[4];
      for (uint32_t k = 0; k < 4; ++k) sums[k] = load_i32(bias + 4 * (o + k)) + delta.at(o + k);
      dot4_q(w, x, in, sums);
      for (uint32_t k = 0; k < 4; ++k) finish.put(o + k, sums[k]);
    }
    for (; o < out; ++o, w += in) {
      finish.put(o, load_i32(bias + 4 * o) + delta.at(o) + dot_q(w, x, in));
    }
  }
  finish.flush(out);
}

// m'(o) = m(o) * s_w(o) / max s_w, behind the mantissas, where int32 values lay before.
const int16_t* rescale(const uint8_t* r, int16_t* mantissa, uint32_t out) {
  int16_t* scaled = mantissa + out;
  for (uint32_t o = 0; o < out; ++o) {
    scaled[o] = static_cast<int16_t>((mantissa[o] * load_u16(r + 2 * o) + (1 << 14)) >> 15);
  }
  return scaled;
}

// The input's gradient where it has several positions, or is a sum with those of other ops.
void backward_by_position(const Execution& run, const Op& op, const OpTraining& plan,
                          const Tensor& xt, const int16_t* m, uint32_t out, int exponent) {
  const int8_t* frozen = frozen_weights(*run.model, op);
  const int16_t* trained =
      op.has(kWeightsTrained) ? reinterpret_cast<int16_t*>(run.adapter + op.weight_param) : nullptr;
  int32_t* values = reinterpret_cast<int32_t*>(run.arena + plan.scratch);
  const uint32_t in = xt.elements();
  for (uint32_t p = 0; p < xt.positions(); ++p) {
    for (uint32_t i = 0; i < xt.channels; ++i) {
      const uint32_t column = p * xt.channels + i;
      int32_t sum = 0;
      for (uint32_t o = 0; o < out; ++o) {
        const int32_t w =
            trained == nullptr ? frozen[o * in + column] : trained[o * in + column] >> 8;
        sum = add_wrapping(sum, m[o] * w);
      }
      values[i] = sum;
    }
    put_gradient(run, xt, p, values, exponent, plan.factor, op.has(kAddsToInput));
  }
}

void backward(const Execution& run, const Op& op, Step& step) {
  const Model& model = *run.model;
  const Tensor xt = model.tensor(op.input), yt = model.tensor(op.output);
  const OpTraining plan = model.op_training(op);
  const uint32_t in = xt.elements(), out = yt.channels;
  int16_t* mantissa = run.mantissas(yt);
  const int exponent = run.exponents(yt)[0];
  if (op.has(kBiasTrained)) update_bias(run, op, plan, out, mantissa, exponent, step);
  if (op.has(kBackwardToInput)) {  // before the weights change
    const int16_t* m =
        plan.rescale == 0 ? mantissa : rescale(model.at(plan.rescale), mantissa, out);
    int32_t* values = reinterpret_cast<int32_t*>(run.mantissas(xt));
    if (plan.scratch != kNone) {
      backward_by_position(run, op, plan, xt, m, out, exponent);
    } else if (op.has(kWeightsTrained)) {
      transpose_multiply(reinterpret_cast<const int16_t*>(run.adapter + op.weight_param), m, out,
                         in, values);
    } else {
      transpose_multiply(frozen_weights(model, op), m, out, in, values);
    }
    if (plan.scratch == kNone) store_gradient(run, xt, 0, values, exponent + plan.factor.exponent);
  }
  if (op.has(kWeightsTrained)) {
    update_weights(run, op, plan, out, in, mantissa, exponent, run.data(xt), xt.zero_point, step);
  }
}

}  // namespace

const OpKernel kFullyConnected = {1, validate, forward, backward};

}  // namespace kilotune
