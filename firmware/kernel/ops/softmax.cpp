// SOFTMAX on int8 with gemmlowp's fixed-point exponential, as TensorFlow Lite Micro computes it.
// Frozen and without a backward pass: training starts from the logits in front of it.
#include "kernel/ops/op.h"

namespace kilotune {
namespace {

constexpr int kScaledDiffBits = 5;  // integer bits of the scaled difference
constexpr int kSumBits = 12;        // integer bits of the sum of exponentials

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  if (x.elements() != y.elements() || x.channels != y.channels) return Status::bad_image;
  // Each exponential is at most 1; from 512 on, the reference itself shifts by more than 31 bits.
  if (x.channels > 511 || static_cast<int32_t>(op.words[0]) < 0) return Status::bad_image;
  if (op.words[1] > 31 || static_cast<int32_t>(op.words[2]) > 0) return Status::bad_image;
  return Status::ok;
}

int32_t saturating_left_shift(int32_t x, int n) {
  return saturate32(static_cast<int64_t>(x) * (1ll << n));
}

// exp(a) for a in [-1/4, 0), Q31: Taylor around -1/8, as gemmlowp's
// exp_on_interval_between_negative_one_quarter_and_0_excl.
int32_t exp_small(int32_t a) {
  constexpr int32_t kConstantTerm = 1895147668;  // exp(-1/8) in Q31
  constexpr int32_t kOneThird = 715827883;
  const int32_t x = a + (1 << 28);
  const int32_t x2 = doubling_high_multiply(x, x);
  const int32_t x3 = doubling_high_multiply(x2, x);
  const int32_t x4 = doubling_high_multiply(x2, x2);
  const int32_t x4_over_4 = divide_by_power_of_two(x4, 2);
  const int32_t rest =
      divide_by_power_of_two(doubling_high_multiply(x4_over_4 + x3, kOneThird) + x2, 1);
  return saturate32(static_cast<int64_t>(kConstantTerm) +
                    doubling_high_multiply(kConstantTerm, x + rest));
}

// exp(a) for a <= 0 in Q5.26, result Q31; gemmlowp's exp_on_negative_values.
int32_t exp_negative(int32_t a) {
  constexpr int kFraction = 31 - kScaledDiffBits;
  constexpr int32_t kQuarter = 1 << (kFraction - 2);
  // exp(-2^k) in Q31 for k = -2 to 4.
  constexpr int32_t kFactor[] = {1672461947, 1302514674, 790015084, 290630308,
                                 39332535,   720401,     242};
  const int32_t modulo = (a & (kQuarter - 1)) - kQuarter;
  int32_t result = exp_small(modulo * (1 << kScaledDiffBits));
  const int32_t remainder = modulo - a;
  for (int k = 0; k < 7; ++k) {
    if ((remainder & (1 << (kFraction - 2 + k))) != 0)
      result = doubling_high_multiply(result, kFactor[k]);
  }
  return a == 0 ? kInt32Max : result;
}

// 1 / (1 + a) for a in [0, 1], Q31: three Newton steps from 48/17 - 32/17 d.
int32_t reciprocal_of_one_plus(int32_t a) {
  constexpr int32_t k48Over17 = 1515870810, kMinus32Over17 = -1010580540;  // Q2.29
  const int32_t half = static_cast<int32_t>((static_cast<int64_t>(a) + kInt32Max + 1) >> 1);
  int32_t x = k48Over17 + doubling_high_multiply(half, kMinus32Over17);
  for (int i = 0; i < 3; ++i) {
    const int32_t error = (1 << 29) - doubling_high_multiply(half, x);
    x += saturating_left_shift(doubling_high_multiply(x, error), 2);
  }
  return saturating_left_shift(x, 1);
}

void forward(const Execution& run, const Op& op, bool) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const int32_t multiplier = static_cast<int32_t>(op.words[0]);
  const int left_shift = static_cast<int>(op.words[1]);
  const int32_t diff_min = static_cast<int32_t>(op.words[2]);
  const uint32_t n = xt.channels;
  for (uint32_t row = 0; row < xt.positions(); ++row) {
    const int8_t* x = run.data(xt) + row * n;
    int8_t* y = run.data(yt) + row * n;
    int32_t largest = -128;
    for (uint32_t i = 0; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
    const auto exponential = [&](int32_t diff) {
      return exp_negative(
          doubling_high_multiply(saturating_left_shift(diff, left_shift), multiplier));
    };
    int32_t sum = 0;
    for (uint32_t i = 0; i < n; ++i) {
      if (x[i] - largest >= diff_min)
        sum += divide_by_power_of_two(exponential(x[i] - largest), kSumBits);
    }
    const int headroom = __builtin_clz(static_cast<uint32_t>(sum));
    const int32_t shifted =
        static_cast<int32_t>((static_cast<uint32_t>(sum) << headroom) - (1u << 31));
    const int32_t scale = reciprocal_of_one_plus(shifted);
    const int exponent = kSumBits - headroom + 31 - 8;
    for (uint32_t i = 0; i < n; ++i) {
      int32_t q = -128;
      if (x[i] - largest >= diff_min) {
        const int32_t product = doubling_high_multiply(scale, exponential(x[i] - largest));
        q = clamp<int32_t>(divide_by_power_of_two(product, clamp(exponent, 0, 31)) - 128, -128,
                           127);
      }
      y[i] = static_cast<int8_t>(q);
    }
  }
}

}  // namespace

const OpKernel kSoftmax = {2, validate, forward, nullptr};

}  // namespace kilotune
