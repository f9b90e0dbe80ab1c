// SGD with momentum, weight decay towards the base model and accumulation, rounded stochastically.
#include "kernel/ops/update.h"

namespace kilotune {

// What plain gradient descent rarely or never needs is compiled for size (gnu::cold).

// round(value * 2^exponent) with |value| < 2^30: up or down with a probability given by the
// distance, so that the expectation is exact.
[[gnu::cold, gnu::noinline]] int32_t round_stochastically(int32_t value, int exponent,
                                                          Random& random) {
  if (exponent >= 0) {
    if (exponent > 31) return value == 0 ? 0 : (value > 0 ? kInt32Max : -kInt32Max);
    return shift_saturated(value, exponent);
  }
  int shift = -exponent;
  if (shift > 30) {  // so that value + random stays in int32; what is cut off is below 2^-30
    const int cut = shift - 30;
    value = cut > 30 ? 0 : value / (1 << cut);
    shift = 30;
  }
  return (value + static_cast<int32_t>(random.bits(shift))) >> shift;
}

namespace {

// round(value * factor), any int32 value.
[[gnu::cold, gnu::noinline]] int32_t scale_stochastically(int32_t value, Real factor,
                                                          Random& random) {
  const int64_t product = static_cast<int64_t>(value) * factor.mantissa;  // 48 bits
  const int extra = clamp(magnitude_bits(saturate32(product >> 16)) - 13, 0, 31);
  return round_stochastically(static_cast<int32_t>(product >> extra), factor.exponent + extra,
                              random);
}

}  // namespace

[[gnu::cold, gnu::noinline]] int32_t add_clamped(int32_t a, int32_t b, int32_t low, int32_t high,
                                                 Step& step) {
  const int64_t sum = static_cast<int64_t>(a) + b;
  if (sum > high || sum < low) ++step.saturated;
  return static_cast<int32_t>(clamp<int64_t>(sum, low, high));
}

// What to add to one parameter: `change` is this window's, `state` (null: none) sums or remembers
// changes, `distance` is the parameter's from the base model.
[[gnu::cold]] int32_t general_change(int32_t change, int32_t* state, int32_t limit,
                                     int32_t distance, Step& step) {
  if (state != nullptr) {
    int32_t v = *state;
    if (step.first) {
      // Stochastic here too: rounded to the nearest, a small velocity would never fade.
      v = scale_stochastically(v, make_real(step.momentum_q15, -15), step.random);
    }
    v = static_cast<int32_t>(clamp<int64_t>(static_cast<int64_t>(v) + change, -limit, limit));
    *state = v;
    change = step.last ? v : 0;
  }
  if (!step.last || step.decay.is_zero()) return change;
  return saturate32(static_cast<int64_t>(change) -
                    scale_stochastically(distance, step.decay, step.random));
}

namespace {

// Plain gradient descent on neighbouring biases that share a factor: delta[o] -= mantissa[o] *
// factor / 2^shift, stochastically; |factor| < 2^14, shift in 1..30. A separate function, so that
// its constants stay in registers.
[[gnu::noinline]] void descend(int32_t* delta, const int16_t* mantissa, uint32_t count,
                               int32_t factor, int shift, Step& step) {
  Random random = step.random;
  const int unused = 32 - shift;
  for (const int16_t* end = mantissa + count; mantissa != end; ++delta) {
    // |product| <= 2^29, the random part below 2^30, |delta| < 2^30.
    const int32_t product = -*mantissa++ * factor;
    int32_t v = *delta + ((product + static_cast<int32_t>(random.next(unused))) >> shift);
    if (static_cast<uint32_t>(v) + kBiasDeltaMax > 2u * kBiasDeltaMax) {
      v = v < 0 ? -kBiasDeltaMax : kBiasDeltaMax;
      ++step.saturated;
    }
    *delta = v;
  }
  step.random = random;
}

// The same where each bias has a factor of its own, rate * kb: as many as their scales allow.
// Returns how many.
[[gnu::noinline]] uint32_t descend_each(int32_t* delta, const int16_t* mantissa, uint32_t count,
                                        const uint8_t* kb, int exponent, Step& step) {
  Random random = step.random;
  const uint32_t rate = step.rate.mantissa;
  const int rate_exponent = step.rate.exponent;
  uint32_t o = 0;
  for (; o < count; ++o, kb += 4) {
    const Real own = load_real(kb);
    // The product of two mantissas has 31 or 32 bits: make_real's rounding, without its other
    // cases.
    const uint32_t product = rate * own.mantissa;
    const int drop = product >> 31 != 0 ? 16 : 15;
    const uint32_t rounded = ((product >> (drop - 1)) + 1) >> 1;
    const bool carries = rounded >> 16 != 0;
    const int32_t factor = static_cast<int32_t>(carries ? 0x2000u : rounded >> 2);
    const int factor_exponent = rate_exponent + own.exponent + drop + (carries ? 1 : 0);
    const int scale = exponent + factor_exponent + 2;
    const bool clamped =
        static_cast<uint32_t>(factor_exponent + kRealExponentMax) > 2u * kRealExponentMax;
    if (scale >= 0 || scale < -30 || product >> 30 == 0 || clamped) break;
    const int32_t change = -mantissa[o] * factor;
    int32_t v = delta[o] + ((change + static_cast<int32_t>(random.next(32 + scale))) >> -scale);
    if (static_cast<uint32_t>(v) + kBiasDeltaMax > 2u * kBiasDeltaMax) {
      v = v < 0 ? -kBiasDeltaMax : kBiasDeltaMax;
      ++step.saturated;
    }
    delta[o] = v;
  }
  step.random = random;
  return o;
}

// One bias at a time, with momentum, accumulation and decay; any scale.
[[gnu::cold, gnu::noinline]] void descend_generally(int32_t* delta, int32_t* state,
                                                    const int16_t* mantissa, uint32_t count,
                                                    int32_t factor, int scale, Step& step) {
  for (uint32_t o = 0; o < count; ++o) {
    const int32_t change = round_stochastically(-mantissa[o] * factor, scale, step.random);
    int32_t* own = state == nullptr ? nullptr : state + o;
    const int32_t total =
        step.rule == nullptr ? change : step.rule(change, own, kBiasDeltaMax, delta[o], step);
    delta[o] = add_clamped(delta[o], total, -kBiasDeltaMax, kBiasDeltaMax, step);
  }
}

// One row of weights by plain gradient descent: weights[i] += coefficient * (x[i] - zero_point) /
// 2^shift, stochastically; |coefficient| <= 2^15, shift in 1..30. Inputs of 0 change nothing and
// draw nothing. A function of its own, as `descend`, where code may be large.
#ifndef __OPTIMIZE_SIZE__
[[gnu::noinline]]
#endif
void descend_row(int16_t* weights, const int8_t* x, uint32_t n,
                                   int32_t zero_point, int32_t coefficient, int shift, Step& step) {
  Random random = step.random;
  const int unused = 32 - shift;
  uint32_t saturated = 0;
  const auto descend_one = [&](int32_t input, int16_t* weight) {
    if (input == 0) return;
    const int32_t change =
        (coefficient * input + static_cast<int32_t>(random.next(unused))) >> shift;
    int32_t v = *weight + change;
    if (static_cast<uint32_t>(v - kWeightParamMin) > kWeightParamMax - kWeightParamMin) {
      v = clamp(v, kWeightParamMin, kWeightParamMax);
      ++saturated;
    }
    *weight = static_cast<int16_t>(v);
  };
  if (!kSmallCode) {
    for (; n >= 4; n -= 4, x += 4, weights += 4) {
      descend_one(x[0] - zero_point, weights);
      descend_one(x[1] - zero_point, weights + 1);
      descend_one(x[2] - zero_point, weights + 2);
      descend_one(x[3] - zero_point, weights + 3);
    }
  }
  for (; n != 0; --n) descend_one(*x++ - zero_point, weights++);
  step.random = random;
  step.saturated += saturated;
}

// The same with momentum, accumulation and decay towards `base`; any scale.
[[gnu::cold, gnu::noinline]] void descend_row_generally(int16_t* weights, int16_t* state,
                                                        const int8_t* base, const int8_t* x,
                                                        uint32_t n, int32_t zero_point,
                                                        int32_t coefficient, int scale,
                                                        Step& step) {
  const bool plain = state == nullptr && step.decay.is_zero();
  for (uint32_t i = 0; i < n; ++i) {
    const int32_t input = x[i] - zero_point;
    if (plain && input == 0) continue;
    const int32_t change = round_stochastically(coefficient * input, scale, step.random);
    int32_t v = state == nullptr ? 0 : state[i];
    const int32_t distance = weights[i] - (base[i] * 256 + 128);
    const int32_t total =
        general_change(change, state == nullptr ? nullptr : &v, 32767, distance, step);
    if (state != nullptr) state[i] = static_cast<int16_t>(v);
    weights[i] = static_cast<int16_t>(
        add_clamped(weights[i], total, kWeightParamMin, kWeightParamMax, step));
  }
}

}  // namespace

void update_bias(const Execution& run, const Op& op, const OpTraining& plan, uint32_t channels,
                 const int16_t* mantissa, int exponent, Step& step) {
  int32_t* delta = reinterpret_cast<int32_t*>(run.adapter + op.bias_param);
  int32_t* state = plan.bias_state == kNone || run.state == nullptr
                       ? nullptr
                       : reinterpret_cast<int32_t*>(run.state + plan.bias_state);
  const uint8_t* kb = run.model->at(plan.kb);
  const uint32_t group = op.has(kPerChannel) ? 1 : channels;  // biases that share a factor
  const bool plain = state == nullptr && step.decay.is_zero();
  for (uint32_t first = 0; first < channels; first += group, kb += 4) {
    if (!kSmallCode && group == 1 && plain && step.adam == nullptr) {
      const uint32_t done =
          descend_each(delta + first, mantissa + first, channels - first, kb, exponent, step);
      first += done;
      kb += 4 * done;
      if (first == channels) return;
    }
    const Real factor = step.rate * load_real(kb);
    if (step.adam != nullptr) {
      step.adam->kernel->biases(delta + first, run.state + plan.bias_state + 2 * first,
                                mantissa + first, group, exponent, factor * step.adam->bias_unit,
                                step);
      continue;
    }
    // |mantissa| < 2^15, factor.mantissa / 4 < 2^14: the product is below 2^29.
    const int32_t short_factor = factor.mantissa >> 2;
    const int scale = exponent + factor.exponent + 2;
    if (plain && scale < 0 && scale >= -30) {
      descend(delta + first, mantissa + first, group, short_factor, -scale, step);
    } else {
      descend_generally(delta + first, state == nullptr ? nullptr : state + first, mantissa + first,
                        group, short_factor, scale, step);
    }
  }
}

void update_bias_positions(const Execution& run, const Op& op, const OpTraining& plan,
                           const Tensor& y, Step& step) {
  const int16_t* exponents = run.exponents(y);
  const int top = largest_exponent(exponents, y.positions());
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
    const uint32_t each = step.adam == nullptr ? 4 : 2;
    if (plan.bias_state != kNone) one_plan.bias_state = plan.bias_state + each * c;
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
  if (step.adam != nullptr) {
    step.adam->kernel->weights(run, op, plan, out, in, mantissa, exponent, x, zero_point, step);
    return;
  }
  for (uint32_t o = 0; o < out; ++o, weights += in, base += in) {
    int16_t* row_state = state == nullptr ? nullptr : state + o * in;
    if (o == 0 || op.has(kPerChannel)) factor = step.rate * load_real(kb + 4 * o) * plan.kw_ratio;
    if (plain && mantissa[o] == 0) continue;
    // 15 bits of the row's coefficient; times x - zero_point (9 bits) it stays below 2^24.
    const int32_t coefficient =
        (-static_cast<int32_t>(mantissa[o]) * (factor.mantissa >> 2) + (1 << 13)) >> 14;
    const int row_exponent = exponent + factor.exponent + 16;
    if (plain && row_exponent < 0 && row_exponent >= -30) {
      descend_row(weights, x, in, zero_point, coefficient, -row_exponent, step);
      continue;
    }
    descend_row_generally(weights, row_state, base, x, in, zero_point, coefficient, row_exponent,
                          step);
  }
}

}  // namespace kilotune
