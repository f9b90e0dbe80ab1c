// SGD with momentum, weight decay towards the base model and accumulation, rounded stochastically.
#include "kernel/ops/update.h"

namespace kilotune {
namespace {

// round(value * 2^exponent) with |value| < 2^30: up or down with probability by the distance, so
// that the expectation is exact.
int32_t round_stochastically(int32_t value, int exponent, Random& random) {
  if (exponent >= 0) {
    if (exponent > 31) return value == 0 ? 0 : (value > 0 ? kInt32Max : -kInt32Max);
    return saturate32(static_cast<int64_t>(value) * (1ll << exponent));
  }
  int shift = -exponent;
  if (shift > 30) {  // so that value + random stays in int32; what is cut off is below 2^-30
    const int cut = shift - 30;
    value = cut > 30 ? 0 : value / (1 << cut);
    shift = 30;
  }
  return (value + static_cast<int32_t>(random.bits(shift))) >> shift;
}

// round(value * factor), any int32 value.
int32_t scale_stochastically(int32_t value, Real factor, Random& random) {
  const int64_t product = static_cast<int64_t>(value) * factor.mantissa;  // 48 bits
  const int extra = clamp(magnitude_bits(saturate32(product >> 16)) - 13, 0, 31);
  return round_stochastically(static_cast<int32_t>(product >> extra), factor.exponent + extra,
                              random);
}

int32_t add_clamped(int32_t a, int32_t b, int32_t low, int32_t high, Step& step) {
  const int64_t sum = static_cast<int64_t>(a) + b;
  if (sum > high || sum < low) ++step.saturated;
  return static_cast<int32_t>(clamp<int64_t>(sum, low, high));
}

// One parameter: `change` is this window's, `state` (null: none) sums or remembers changes.
// Returns what to add to the parameter.
template <typename State>
int32_t through_state(int32_t change, State* state, int32_t limit, Step& step) {
  if (state == nullptr) return change;
  int32_t v = *state;
  if (step.first) {
    // Stochastic here too: rounded to nearest, a small velocity would never fade.
    v = scale_stochastically(v, make_real(step.momentum_q15, -15), step.random);
  }
  v = static_cast<int32_t>(clamp<int64_t>(static_cast<int64_t>(v) + change, -limit, limit));
  *state = static_cast<State>(v);
  return step.last ? v : 0;
}

}  // namespace

void update_bias(const Execution& run, const Op& op, const OpTraining& plan, uint32_t channels,
                 const int16_t* mantissa, int exponent, Step& step) {
  int32_t* delta = reinterpret_cast<int32_t*>(run.adapter + op.bias_param);
  int32_t* state = plan.bias_state == kNone || run.state == nullptr
                       ? nullptr
                       : reinterpret_cast<int32_t*>(run.state + plan.bias_state);
  const uint8_t* kb = run.model->at(plan.kb);
  Real factor = step.rate * load_real(kb);
  for (uint32_t o = 0; o < channels; ++o) {
    if (o > 0 && op.has(kPerChannel)) factor = step.rate * load_real(kb + 4 * o);
    // |mantissa| < 2^15, factor.mantissa / 4 < 2^14: the product is below 2^29.
    const int32_t product = -static_cast<int32_t>(mantissa[o]) * (factor.mantissa >> 2);
    int32_t change = round_stochastically(product, exponent + factor.exponent + 2, step.random);
    change = through_state(change, state == nullptr ? nullptr : state + o, kBiasDeltaMax, step);
    if (step.last && !step.decay.is_zero()) {
      change = saturate32(static_cast<int64_t>(change) -
                          scale_stochastically(delta[o], step.decay, step.random));
    }
    delta[o] = add_clamped(delta[o], change, -kBiasDeltaMax, kBiasDeltaMax, step);
  }
}

void update_bias_positions(const Execution& run, const Op& op, const OpTraining& plan,
                           const Tensor& y, Step& step) {
  const int16_t* exponents = run.exponents(y);
  int top = kZeroExponent;
  for (uint32_t p = 0; p < y.positions(); ++p) top = exponents[p] > top ? exponents[p] : top;
  Op one = op;
  OpTraining one_plan = plan;
  for (uint32_t c = 0; c < y.channels; ++c) {
    // Mantissas with 15 more bits, brought to the largest exponent: 31 bits times 2^32 positions.
    const int16_t* m = run.mantissas(y) + c;
    int64_t sum = 0;
    for (uint32_t p = 0; p < y.positions(); ++p, m += y.channels) {
      const int d = top - exponents[p];
      if (*m != 0 && d < 31) sum += (static_cast<int32_t>(*m) * (1 << 15)) >> d;
    }
    const uint64_t magnitude = static_cast<uint64_t>(sum < 0 ? -sum : sum);
    const int shift = magnitude == 0 ? 0 : clamp(64 - __builtin_clzll(magnitude) - 15, 0, 63);
    const int16_t mantissa = static_cast<int16_t>(sum >> shift);  // -2^15 at least
    one.bias_param = op.bias_param + 4 * c;
    if (op.has(kPerChannel)) one_plan.kb = plan.kb + 4 * c;
    if (plan.bias_state != kNone) one_plan.bias_state = plan.bias_state + 4 * c;
    update_bias(run, one, one_plan, 1, &mantissa, clamp(top, -4000, 4000) - 15 + shift, step);
  }
}

void update_weights(const Execution& run, const Op& op, const OpTraining& plan, uint32_t out,
                    uint32_t in, const int16_t* mantissa, int exponent, const int8_t* x,
                    int32_t zero_point, Step& step) {
  int16_t* weights = reinterpret_cast<int16_t*>(run.adapter + op.weight_param);
  int16_t* state = plan.weight_state == kNone || run.state == nullptr
                       ? nullptr
                       : reinterpret_cast<int16_t*>(run.state + plan.weight_state);
  const int8_t* base = reinterpret_cast<const int8_t*>(run.model->at(op.weights));
  const uint8_t* kb = run.model->at(plan.kb);
  const bool plain = state == nullptr && step.decay.is_zero();
  Real factor;
  for (uint32_t o = 0; o < out; ++o, weights += in, base += in) {
    int16_t* row_state = state == nullptr ? nullptr : state + o * in;
    if (o == 0 || op.has(kPerChannel)) factor = step.rate * load_real(kb + 4 * o) * plan.kw_ratio;
    if (plain && mantissa[o] == 0) continue;
    // 15 bits of the row's coefficient; times x - zero_point (9 bits) it stays below 2^24.
    const int32_t coefficient =
        (-static_cast<int32_t>(mantissa[o]) * (factor.mantissa >> 2) + (1 << 13)) >> 14;
    const int row_exponent = exponent + factor.exponent + 16;
    for (uint32_t i = 0; i < in; ++i) {
      int32_t change =
          round_stochastically(coefficient * (x[i] - zero_point), row_exponent, step.random);
      if (!plain) {
        change = through_state(change, row_state == nullptr ? nullptr : row_state + i, 32767, step);
        if (step.last && !step.decay.is_zero()) {
          const int32_t distance = weights[i] - (base[i] * 256 + 128);
          change = saturate32(static_cast<int64_t>(change) -
                              scale_stochastically(distance, step.decay, step.random));
        }
      }
      weights[i] = static_cast<int16_t>(
          add_clamped(weights[i], change, kWeightParamMin, kWeightParamMax, step));
    }
  }
}

}  // namespace kilotune
