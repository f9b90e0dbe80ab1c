// FULLY_CONNECTED: y = clamp(zero_point + requantise(W x + b)), and its gradients.
#include "kernel/ops/dense.h"
#include "kernel/ops/layer.h"
#include "kernel/ops/update.h"

namespace kilotune {
namespace {

// `kWhole`: for kFullyConnected; otherwise for kDenseBiases, which omits what biases of plain dense
// layers do not need. Conditions on it are decided at compile time.
template <bool kWhole>
bool trains_weights(const Op& op) {
  return kWhole && op.has(kWeightsTrained);
}

const int8_t* frozen_weights(const Model& model, const Op& op) {
  return reinterpret_cast<const int8_t*>(model.at(op.weights));
}

// The widest mantissa must not overflow the sum over any column of weights.
bool columns_fit(const int8_t* w, uint32_t out, uint32_t in, int mantissa_bits, bool trained) {
  const uint32_t limit = (1u << 31) >> mantissa_bits;  // sum of |w| must stay below
  if (trained) {
    // Training stays within +-127; a base weight of -128 starts beyond it. out < 2^16.
    const bool beyond = std::memchr(w, 0x80, size_t{out} * in) != nullptr;
    return (beyond ? 128u : 127u) * out < limit;
  }
  for (uint32_t i = 0; i < in; ++i) {
    uint32_t norm = 0;  // below 2^23
    for (uint32_t o = 0; o < out; ++o)
      norm += static_cast<uint32_t>(w[o * in + i] < 0 ? -w[o * in + i] : w[o * in + i]);
    if (norm >= limit) return false;
  }
  return true;
}

template <bool kWhole>
Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const uint32_t out = y.channels, in = x.elements();
  if (!kWhole && op.has(kWeightsTrained)) return Status::unsupported_op;
  if (y.positions() != 1) return Status::bad_image;
  const Status layer = check_layer(model, op, uint64_t{out} * in, in);
  if (layer != Status::ok) return layer;
  if (op.has(kBackwardToInput)) {
    const OpTraining t = model.op_training(op);
    if (!kWhole && t.scratch != kNone) return Status::unsupported_op;
    if (t.rescale != 0 && trains_weights<kWhole>(op) && !model.holds_gradient(y, 4))
      return Status::bad_image;
    if (t.scratch != kNone ? !scratch_holds(model, t.scratch, 4ull * x.channels)
                           : x.positions() != 1 || op.has(kAddsToInput) || !t.factor.is_zero())
      return Status::bad_image;
    if (!columns_fit(frozen_weights(model, op), out, in, y.mantissa_bits,
                     trains_weights<kWhole>(op))) {
      return Status::bad_image;
    }
  }
  return Status::ok;
}

template <bool kWhole>
void forward(const Execution& run, const Op& op, bool training) {
  const Model& model = *run.model;
  const Tensor xt = model.tensor(op.input), yt = model.tensor(op.output);
  const int8_t* x = run.data(xt);
  const uint32_t in = xt.elements(), out = yt.channels;
  const DenseBias bias = dense_bias(run, op);
  Finish finish = make_finish(run, op, yt, training);
  if (trains_weights<kWhole>(op)) {
    const int16_t* w = reinterpret_cast<const int16_t*>(run.adapter + op.weight_param);
    if (!kSmallCode) {
      dense_trained(w, x, xt.zero_point, in, out, bias, finish);
    } else {
      for (uint32_t o = 0; o < out; ++o, w += in)
        finish.put(o, bias.at(o) + dot_trained(w, x, xt.zero_point, in));
    }
  } else {
    dense_layer(frozen_weights(model, op), x, in, out, bias, finish);
  }
  finish.flush(out);
}

// m'(o) = m(o) * s_w(o) / max s_w: in place, or behind the mantissas where these are needed again.
const int16_t* rescale(const uint8_t* r, int16_t* mantissa, uint32_t out, bool keep) {
  int16_t* scaled = keep ? mantissa + out : mantissa;
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

template <bool kWhole>
void backward(const Execution& run, const Op& op, Step& step) {
  const Model& model = *run.model;
  const Tensor xt = model.tensor(op.input), yt = model.tensor(op.output);
  const OpTraining plan = model.op_training(op);
  const uint32_t in = xt.elements(), out = yt.channels;
  int16_t* mantissa = run.mantissas(yt);
  const int exponent = run.exponents(yt)[0];
  if (op.has(kBiasTrained)) update_bias(run, op, plan, out, mantissa, exponent, step);
  if (op.has(kBackwardToInput)) {  // before the weights change
    const int16_t* m = plan.rescale == 0 ? mantissa
                                         : rescale(model.at(plan.rescale), mantissa, out,
                                                   trains_weights<kWhole>(op));
    int32_t* values = reinterpret_cast<int32_t*>(run.mantissas(xt));
    if (kWhole && plan.scratch != kNone) {
      backward_by_position(run, op, plan, xt, m, out, exponent);
    } else {
      if (trains_weights<kWhole>(op)) {
        transpose_multiply(reinterpret_cast<const int16_t*>(run.adapter + op.weight_param), m, out,
                           in, values);
      } else {
        transpose_multiply(frozen_weights(model, op), m, out, in, values);
      }
      store_gradient(run, xt, 0, values, exponent + plan.factor.exponent);
    }
  }
  if (trains_weights<kWhole>(op)) {
    update_weights(run, op, plan, out, in, mantissa, exponent, run.data(xt), xt.zero_point, step);
  }
}

uint32_t weight_count(const Model& model, const Op& op) {
  return model.tensor(op.output).channels * model.tensor(op.input).elements();
}
void reset_weights(const Model& model, const Op& op, int16_t* values) {
  start_weights(frozen_weights(model, op), weight_count(model, op), values);
}
bool weights_valid(const Model& model, const Op& op, const uint8_t* values) {
  return weights_in_range(frozen_weights(model, op), weight_count(model, op), values);
}
WeightChange weight_change(const Model& model, const Op& op, const uint8_t* values) {
  WeightChange sum;
  add_change(frozen_weights(model, op), weight_count(model, op), values, sum);
  return sum;
}

constexpr TrainedWeights kWeights = {weight_count, reset_weights, weights_valid, weight_change};

}  // namespace

const OpKernel kFullyConnected = {1, validate<true>, forward<true>, backward<true>, &kWeights};
const OpKernel kDenseBiases = {1, validate<false>, forward<false>, backward<false>};

}  // namespace kilotune
