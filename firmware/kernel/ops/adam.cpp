// Adam with two bytes per parameter: the root of the mean square gradient as a logarithm in eighths
// of an octave, and the mean gradient over that root in 1/32. Both are rounded stochastically: in
// most steps, a mean over a thousand steps moves by less than one of these units.
#include "kernel/ops/adam.h"

#include "kernel/fixed_log.h"
#include "kernel/ops/op.h"
#include "kernel/ops/update.h"

namespace kilotune {
namespace {

constexpr int32_t kOne = 1 << 16;        // of a logarithm in Q16
constexpr int32_t kCode = kOne / 8;      // one code of the root
constexpr int32_t kLowest = -20 * kOne;  // of code 1; code 0: no gradient yet. Code 255 is 2^11.75
constexpr int kMeanBits = 5;             // fraction of the stored mean
constexpr int kRatioBits = 10;           // fraction of gradients and means over the root
constexpr int32_t kRatioMax = 1 << 15;   // 32 roots

// 2^(log2 / 2^16) in Q10, at most kRatioMax.
int32_t power_q10(int32_t log2_q16) {
  const int whole = log2_q16 >> 16;
  if (whole >= 5) return kRatioMax;
  if (whole < -kRatioBits) return 0;
  return static_cast<int32_t>(exp2_q31(static_cast<uint32_t>(log2_q16) & 0xFFFFu) >>
                              (31 - kRatioBits - whole));
}

// log2 of a positive float32 from its bits, Q16.
int32_t log2_of_float(uint32_t bits) {
  return log2_q16((bits & 0x7FFFFFu) | 0x800000u) +
         (static_cast<int32_t>(bits >> 23 & 0xFFu) - 150) * kOne;
}

Real inverse_of_float(uint32_t bits) {
  const uint32_t mantissa = (bits & 0x7FFFFFu) | 0x800000u;
  return make_real(static_cast<uint32_t>((uint64_t{1} << 54) / mantissa),
                   -54 - (static_cast<int>(bits >> 23 & 0xFFu) - 150));
}

// 2^log2 as a Real.
Real real_power(int32_t log2_q16) {
  return make_real(exp2_q31(static_cast<uint32_t>(log2_q16) & 0xFFFFu), (log2_q16 >> 16) - 31);
}

void begin(Adam& adam, uint16_t beta1_q15) {
  adam.beta1_q15 = beta1_q15 == 0 ? kAdamBeta1 : beta1_q15;
  adam.powers_q31[0] = adam.powers_q31[1] = 1u << 31;
}

void advance(Adam& adam) {
  uint32_t* power = adam.powers_q31;
  power[0] = static_cast<uint32_t>((uint64_t{power[0]} * adam.beta1_q15) >> 15);
  power[1] -= power[1] >> kAdamMemory;
  const int32_t mean = log2_q16((1u << 31) - power[0]), square = log2_q16((1u << 31) - power[1]);
  adam.correction = real_power((square - 31 * kOne) / 2 - (mean - 31 * kOne));
}

void enter(Adam& adam, const Model& model, const Op& op) {
  // Floats, both above 0: C and the input's scale.
  const uint32_t unit = model.op_training(op).unit_bits, scale = model.scale_bits(op.input);
  adam.bias_unit = inverse_of_float(unit);
  adam.weight_unit = adam.bias_unit * inverse_of_float(scale);
  adam.unit_log2_q16 = log2_of_float(unit);
}

// What to add to a parameter whose gradient is gradient * 2^exponent * C; `rate` is the learning
// rate over the value of one of the parameter's units.
int32_t change(const Adam& adam, uint8_t state[2], int32_t gradient, int exponent, Real rate,
               Random& random) {
  const uint32_t magnitude =
      gradient < 0 ? 0u - static_cast<uint32_t>(gradient) : static_cast<uint32_t>(gradient);
  if (state[0] == 0 && magnitude == 0) return 0;
  const int32_t size = log2_q16(magnitude) + clamp(exponent, -200, 200) * kOne + adam.unit_log2_q16;
  // The root before this gradient; for the first one, the root that it makes by itself.
  const int32_t start = size - kAdamMemory / 2 * kOne;
  const int32_t root = state[0] == 0 ? start : kLowest + (state[0] - 1) * kCode;
  int32_t ratio = magnitude == 0 ? 0 : power_q10(size - root);
  int32_t codes = 0;  // that the root moves by, in Q16
  if (state[0] == 0) {
    codes = (start - kLowest) * 8 + kOne;
  } else {
    // New mean square over the old one, Q20: 1 + (ratio^2 - 1) / 2^10.
    const int32_t square = (1 << 20) + ((ratio * ratio - (1 << 20)) >> kAdamMemory);
    codes = (log2_q16(static_cast<uint32_t>(square)) - 20 * kOne) * 4;
  }
  const int32_t moved = (codes + static_cast<int32_t>(random.bits(16))) >> 16;
  const int32_t code = clamp(state[0] + moved, 1, 255);
  const int32_t by = state[0] == 0 ? 0 : code - state[0];
  if (gradient < 0) ratio = -ratio;
  const int32_t old = static_cast<int8_t>(state[1]) * (1 << (kRatioBits - kMeanBits));
  int32_t mean = (old * adam.beta1_q15 + ratio * (32768 - adam.beta1_q15)) >> 15;
  if (by != 0) mean = (mean * power_q10(-by * kCode)) >> kRatioBits;
  state[0] = static_cast<uint8_t>(code);
  const int32_t kept = (mean + static_cast<int32_t>(random.bits(5))) >> (kRatioBits - kMeanBits);
  state[1] = static_cast<uint8_t>(static_cast<int8_t>(clamp(kept, -127, 127)));
  const Real factor = rate * adam.correction;
  // |mean| <= 2^15, 14 bits of the factor.
  return round_stochastically(-clamp(mean, -kRatioMax, kRatioMax) * (factor.mantissa >> 2),
                              factor.exponent + 2 - kRatioBits, random);
}

// The same with the decay of a parameter that is `distance` from the base model's.
int32_t change_at(uint8_t* state, int32_t gradient, int exponent, Real rate, int32_t distance,
                  Step& step) {
  const int32_t moved = change(*step.adam, state, gradient, exponent, rate, step.random);
  return general_change(moved, nullptr, 0, distance, step);
}

void biases(int32_t* delta, uint8_t* state, const int16_t* mantissa, uint32_t count, int exponent,
            Real rate, Step& step) {
  for (uint32_t o = 0; o < count; ++o) {
    const int32_t moved = change_at(state + 2 * o, mantissa[o], exponent, rate, delta[o], step);
    delta[o] = add_clamped(delta[o], moved, -kBiasDeltaMax, kBiasDeltaMax, step);
  }
}

void values(int16_t* values, int16_t* state, const int32_t* gradient, uint32_t n, int exponent,
            Real factor, const ValueRange& range, Step& step) {
  const Real rate = factor * step.adam->weight_unit;
  for (uint32_t i = 0; i < n; ++i) {
    const int32_t base = range.base == nullptr ? 0 : range.base[i] * range.unit + range.offset;
    const int32_t moved = change_at(reinterpret_cast<uint8_t*>(state + i), gradient[i], exponent,
                                    rate, values[i] - base, step);
    values[i] = static_cast<int16_t>(add_clamped(values[i], moved, range.low, range.high, step));
  }
}

void weights(const Execution& run, const Op& op, const OpTraining& plan, uint32_t out, uint32_t in,
             const int16_t* mantissa, int exponent, const int8_t* x, int32_t zero_point,
             Step& step) {
  int16_t* own = reinterpret_cast<int16_t*>(run.adapter + op.weight_param);
  int16_t* state = reinterpret_cast<int16_t*>(run.state + plan.weight_state);
  const int8_t* base = reinterpret_cast<const int8_t*>(run.model->at(op.weights));
  for (uint32_t o = 0; o < out; ++o) {
    const uint8_t* kb = run.model->at(plan.kb) + (op.has(kPerChannel) ? 4 * o : 0);
    const Real factor = step.rate * load_real(kb) * plan.kw_ratio;
    for (uint32_t i = 0; i < in; ++i, ++own, ++state, ++base) {
      const int32_t gradient = mantissa[o] * (x[i] - zero_point);
      values(own, state, &gradient, 1, exponent, factor,
             {kWeightParamMin, kWeightParamMax, base, 256, 128}, step);
    }
  }
}

// A state for every parameter, and floats that are positive and far from their ends.
Status check(const Model& model) {
  const auto positive = [](uint32_t bits) { return bits >= 0x01000000u && bits < 0x7E000000u; };
  for (uint16_t i = 0; i < model.op_count; ++i) {
    const Op o = model.op(i);
    if (o.training == 0) continue;
    const OpTraining t = model.op_training(o);
    if (!positive(t.unit_bits) || !positive(model.scale_bits(o.input)) ||
        (o.has(kBiasTrained) && t.bias_state == kNone) ||
        (o.has(kWeightsTrained) && t.weight_state == kNone)) {
      return Status::bad_image;
    }
  }
  return Status::ok;
}

constexpr AdamKernel kKernel = {check, begin, advance, enter, biases, weights, values};

}  // namespace

const OpKernel kAdam = {kAdamOpcode, nullptr, nullptr, nullptr, nullptr, &kKernel};

}  // namespace kilotune
