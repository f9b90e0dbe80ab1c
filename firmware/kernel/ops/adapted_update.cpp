// Gradients of weights that are trained in part, summed over positions, and their updates.
#include "kernel/ops/adapted.h"
#include "kernel/ops/update.h"

namespace kilotune {
namespace {

constexpr uint32_t kChunk = 16;  // weights whose gradients are summed at a time

// Bits to drop from 15-bit numbers so that the sum of `positions` of them, each times
// x - zero_point (8 bits), stays in int32.
int bits_to_drop(uint32_t positions) {
  int bits = 0;
  while ((1u << (bits + 7)) < positions) ++bits;
  return bits;
}

// A 15-bit mantissa for a 64-bit sum, and its exponent.
int16_t normalise(int64_t sum, int& exponent) {
  const uint64_t magnitude = static_cast<uint64_t>(sum < 0 ? ~sum : sum);
  const int shift = magnitude == 0 ? 0 : clamp(64 - __builtin_clzll(magnitude) - 15, 0, 63);
  exponent += shift;
  return static_cast<int16_t>(sum >> shift);
}

// One op's backward pass, as its trained weights see it.
class Gradients {
 public:
  Gradients(const Execution& run, const Op& op, Step& step)
      : run_(run),
        model_(*run.model),
        op_(op),
        step_(step),
        plan_(model_.op_training(op)),
        layer_(model_, op),
        values_(reinterpret_cast<int16_t*>(run.adapter + op.weight_param)),
        state_(plan_.weight_state == kNone || run.state == nullptr
                   ? nullptr
                   : reinterpret_cast<int16_t*>(run.state + plan_.weight_state)),
        // Up to three lists with one number per position: gradients; with a rank, also the input
        // as projected by A, and exponents.
        along_(reinterpret_cast<int16_t*>(run.arena + plan_.scratch)),
        dropped_(bits_to_drop(layer_.y.positions())) {}

  void update() {
    if (layer_.weights.rank() != 0) {
      for (uint32_t k = 0; k < layer_.weights.rank(); ++k) update_factors(k);
      return;
    }
    for (uint32_t o = 0; o < layer_.y.channels; ++o) {
      if (layer_.weights.trained(o)) update_channel(o);
    }
  }

 private:
  [[nodiscard]] uint32_t positions() const { return layer_.y.positions(); }
  [[nodiscard]] int16_t* own_state(uint32_t at) const {
    return state_ == nullptr ? nullptr : state_ + at;
  }
  // Step of channel o's bias, times `ratio`.
  [[nodiscard]] Real step_of(uint32_t o) const {
    const uint32_t at = op_.has(kPerChannel) ? 4 * o : 0;
    return step_.rate * load_real(model_.at(plan_.kb) + at) * plan_.kw_ratio;
  }

  void update_channel(uint32_t o) {
    const int16_t* m = run_.mantissas(layer_.y) + o;
    const int16_t* exponents = run_.exponents(layer_.y);
    int top = kZeroExponent;
    for (uint32_t p = 0; p < positions(); ++p) {
      if (m[p * layer_.y.channels] != 0 && exponents[p] > top) top = exponents[p];
    }
    for (uint32_t p = 0; p < positions(); ++p) {
      const int16_t v = m[p * layer_.y.channels];
      along_[p] = v == 0 ? int16_t{0}
                         : static_cast<int16_t>(align_mantissa(v, top - exponents[p] + dropped_));
    }
    if (top == kZeroExponent) top = 0;
    const uint32_t at = layer_.weights.slot(o) * layer_.fan_in;
    update_row(at, top + dropped_, step_of(o),
               {kWeightParamMin, kWeightParamMax, layer_.weights.base(o), 256, 128});
  }

  // The fan_in values from `at` on: their gradients are the sums of along_(p) * (x(p, i) - zero).
  void update_row(uint32_t at, int exponent, Real factor, ValueRange range) {
    int32_t sums[kChunk];
    for (uint32_t tap = 0; tap < static_cast<uint32_t>(layer_.window.taps()); ++tap) {
      for (uint32_t i = 0; i < layer_.x.channels; i += kChunk) {
        const uint32_t n = layer_.x.channels - i < kChunk ? layer_.x.channels - i : kChunk;
        std::memset(sums, 0, sizeof sums);
        for (uint32_t p = 0; p < positions(); ++p) {
          const int8_t* x = along_[p] == 0 ? nullptr : input(p, tap);
          if (x == nullptr) continue;
          for (uint32_t j = 0; j < n; ++j)
            sums[j] = add_wrapping(sums[j], along_[p] * (x[i + j] - layer_.x.zero_point));
        }
        update_values(values_ + at, own_state(at), sums, n, exponent, factor, range, step_);
        at += n;
        if (range.base != nullptr) range.base += n;
      }
    }
  }

  // What tap reads at output position p, null outside of the input, where x - zero_point is 0.
  [[nodiscard]] const int8_t* input(uint32_t p, uint32_t tap) const {
    if (layer_.whole) return run_.data(layer_.x) + tap * layer_.x.channels;
    if (layer_.window.pointwise()) return run_.data(layer_.x) + p * layer_.x.channels;
    const int32_t at = static_cast<int32_t>(p), t = static_cast<int32_t>(tap);
    const Axis &v = layer_.window.y, &h = layer_.window.x;
    const int32_t iy = at / h.out * v.stride - v.pad + t / h.size * v.dilation;
    const int32_t ix = at % h.out * h.stride - h.pad + t % h.size * h.dilation;
    if (iy < 0 || iy >= v.in || ix < 0 || ix >= h.in) return nullptr;
    return run_.data(layer_.x) + static_cast<uint32_t>(iy * h.in + ix) * layer_.x.channels;
  }

  // Row k of A and column k of B, each from the old values of the other.
  void update_factors(uint32_t k) {
    const uint32_t even = (positions() + 1) & ~1u;
    int16_t *projected = along_ + even, *exponents = projected + even;
    for (uint32_t p = 0; p < positions(); ++p) {
      int e = run_.exponents(layer_.y)[p];
      along_[p] = normalise(sent_back(p, k), e);
      exponents[p] = static_cast<int16_t>(along_[p] == 0 ? kZeroExponent : e);
    }
    const int sent = align(along_, exponents, dropped_);
    for (uint32_t p = 0; p < positions(); ++p) {
      int e = 0;
      projected[p] = normalise(projection(p, k), e);
      exponents[p] = static_cast<int16_t>(e);
    }
    update_column(k, projected, align(projected, exponents, 0));
    update_row(
        k * layer_.fan_in, sent, step_.rate * layer_.weights.factor_step(),
        {-kFactorMax, kFactorMax, layer_.weights.start() + k * layer_.fan_in, kFactorStart, 0});
  }

  // Brings mantissas to their largest exponent, less `drop` bits, and returns it.
  int align(int16_t* mantissas, const int16_t* exponents, int drop) const {
    const int top = largest_exponent(exponents, positions());
    if (top == kZeroExponent) return 0;
    for (uint32_t p = 0; p < positions(); ++p)
      mantissas[p] = static_cast<int16_t>(align_mantissa(mantissas[p], top - exponents[p] + drop));
    return top + drop;
  }

  // sum over o of m'(p, o) B(o, k).
  [[nodiscard]] int64_t sent_back(uint32_t p, uint32_t k) const {
    const int16_t* m = run_.mantissas(layer_.y) + p * layer_.y.channels;
    const int16_t* b = values_ + layer_.weights.rank() * layer_.fan_in + k;
    const uint8_t* r = plan_.rescale == 0 ? nullptr : aligned4(model_.at(plan_.rescale));
    int64_t sum = 0;
    for (uint32_t o = 0; o < layer_.y.channels; ++o, b += layer_.weights.rank()) {
      const int32_t scaled = r == nullptr ? m[o] : (m[o] * load_u16(r + 2 * o) + (1 << 14)) >> 15;
      sum += scaled * *b;
    }
    return sum;
  }

  // sum over i of A(k, i) (x(p, i) - zero_point).
  [[nodiscard]] int64_t projection(uint32_t p, uint32_t k) const {
    const int16_t* a = values_ + k * layer_.fan_in;
    int64_t sum = 0;
    for (uint32_t tap = 0; tap < static_cast<uint32_t>(layer_.window.taps());
         ++tap, a += layer_.x.channels) {
      const int8_t* x = input(p, tap);
      if (x == nullptr) continue;
      for (uint32_t i = 0; i < layer_.x.channels; ++i) sum += a[i] * (x[i] - layer_.x.zero_point);
    }
    return sum;
  }

  // B(o, k) for all o: its gradient is the sum of m(p, o) * projected(p).
  void update_column(uint32_t k, const int16_t* projected, int exponent) {
    const int16_t* exponents = run_.exponents(layer_.y);
    const int top = largest_exponent(exponents, positions());
    for (uint32_t o = 0; o < layer_.y.channels; ++o) {
      const int16_t* m = run_.mantissas(layer_.y) + o;
      int64_t sum = 0;
      for (uint32_t p = 0; p < positions(); ++p) {
        const int d = top - exponents[p];
        const int32_t product = m[p * layer_.y.channels] * projected[p];
        if (product != 0 && d < 31) sum += static_cast<int64_t>(product) * (1 << 15) >> d;
      }
      int e = clamp(top, -4000, 4000) + exponent - 15;
      const int32_t gradient = normalise(sum, e);
      const uint32_t at = layer_.weights.rank() * (layer_.fan_in + o) + k;
      update_values(values_ + at, own_state(at), &gradient, 1, e, step_of(o),
                    {-32767, 32767, nullptr, 0, 0}, step_);
    }
  }

  const Execution& run_;
  const Model& model_;
  const Op& op_;
  Step& step_;
  OpTraining plan_;
  AdaptedLayer layer_;
  int16_t *values_, *state_, *along_;
  int dropped_;
};

}  // namespace

void update_adapted(const Execution& run, const Op& op, Step& step) {
  Gradients(run, op, step).update();
}

}  // namespace kilotune
