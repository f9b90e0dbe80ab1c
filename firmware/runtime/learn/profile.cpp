// Calibration: means, and variances shrunk towards the base model's by pseudo-windows.
#include "runtime/learn/profile.h"

#include "kernel/fixed_point.h"

namespace kilotune {
namespace {

constexpr uint32_t kProfileBytes = 64;
constexpr uint16_t kScaleMin = 8;  // 2^-9 log2 units: below the features' own resolution
constexpr uint16_t kResidualScaleMin = 1;

bool positive(const uint8_t* p, uint32_t n, uint16_t low) {
  for (uint32_t i = 0; i < n; ++i) {
    if (load_u16(p + 2 * i) < low) return false;
  }
  return true;
}

}  // namespace

uint32_t square_root(uint64_t v) {
  uint64_t root = 0;
  for (uint64_t bit = 1ull << 62; bit != 0; bit >>= 2) {
    if (v >= root + bit) {
      v -= root + bit;
      root = (root >> 1) + bit;
    } else {
      root >>= 1;
    }
  }
  return static_cast<uint32_t>(root);
}

Status Profile::open(const Model& model, const FeatureConfig& features) {
  const Bytes& image = model.image();
  image_ = image.data;
  if (!image.holds(model.profile, 1, kProfileBytes)) return Status::bad_image;
  const uint8_t* p = at(model.profile);
  capacity = load_u16(p);
  outputs = load_u16(p + 2);
  mean_pseudo_ = p[4];
  scale_pseudo_ = p[5];
  residual_pseudo_ = p[6];
  near_pseudo = p[7];
  threshold_pseudo = p[8];
  neighbours = p[9];
  level_ = p[10] != 0;
  early = p[11];
  inverse_input_ = load_i32(p + 12);
  threshold_spread_q10 = load_u16(p + 16);
  quantile_q10 = load_u16(p + 18);
  quantile_tail_q10 = load_u16(p + 20);
  margin_permille = load_u16(p + 22);
  base_threshold_q10 = load_i16(p + 24);
  features_ = features.features_total;

  const Tensor x = model.tensor(model.input);
  zero_point = x.zero_point;
  if (x.elements() != features_ || !model.trainable()) return Status::bad_image;
  const Training t = model.training();
  const bool classifies = t.loss == Loss::cross_entropy;
  if (t.loss == Loss::regression) return Status::bad_image;
  if (outputs != (classifies ? 0 : model.tensor(t.tensor).elements())) return Status::bad_image;
  if (capacity < 1 || capacity > 255 || neighbours < 1 || neighbours > kMaxNeighbours)
    return Status::bad_image;
  // Early windows are compared with each other in memory for one number a slot.
  if (early > capacity || (early != 0 && classifies)) return Status::bad_image;
  const LifeConfig life = Profile::life(model);
  if (life.of > 8 || life.alarmed > life.of || (life.of != 0 && classifies))
    return Status::bad_image;
  if (life.of != 0 &&
      (life.alarmed == 0 || life.record == 0 || life.first < kHoldRecords || life.anchor == 0))
    return Status::bad_image;
  if (inverse_input_ < 1 || inverse_input_ > 1 << 14) return Status::bad_image;
  const AloneConfig config = alone(model);
  const bool trains = config.windows != 0 && config.passes != 0;
  const bool normal = config.rate.is_zero() ? !trains : config.rate.mantissa >= 0x8000;
  if (!normal || (classifies && config.windows != 0)) return Status::bad_image;
  sigma_lsb = inverse_input_ < 128 ? 1 : (inverse_input_ + 64) >> 7;
  classes = classifies ? t.classes : uint16_t{0};
  const uint32_t mean = load_u32(p + 28), scale = load_u32(p + 32), residual = load_u32(p + 36);
  if (!image.holds(mean, features_, 2) || !image.holds(scale, features_, 2))
    return Status::bad_image;
  if (!image.holds(residual, outputs, 2)) return Status::bad_image;
  mean_ = at(mean);
  scale_ = at(scale);
  residual_scale_ = at(residual);
  if (!positive(scale_, features_, kScaleMin) ||
      !positive(residual_scale_, outputs, kResidualScaleMin)) {
    return Status::bad_image;
  }
  // The trained parameters start where the calibration block ends.
  const uint32_t block = AdapterView::bytes(features_, outputs, capacity, early, life.of != 0);
  if (block > model.adapter_bytes) return Status::bad_image;
  for (uint16_t i = 0; i < model.op_count; ++i) {
    const Op op = model.op(i);
    if (op.has(kBiasTrained) && op.bias_param < block) return Status::bad_image;
    if (op.has(kWeightsTrained) && op.weight_param < block) return Status::bad_image;
  }
  return Status::ok;
}

AloneConfig Profile::alone(const Model& model) {
  const uint8_t* p = model.image().data + model.profile + 40;
  return {load_u16(p), load_u16(p + 2), {load_u16(p + 4), load_i16(p + 6)}};
}

LifeConfig Profile::life(const Model& model) {
  const uint8_t* p = model.image().data + model.profile + 48;
  return {p[0], p[1], p[2], p[3], p[4]};
}

void Profile::reset(AdapterView& view) const {
  CalibrationHead head;
  head.threshold = base_threshold_q10;
  view.set_head(head);
  std::memcpy(view.feature_mean(), mean_, 2u * features_);
  std::memcpy(view.feature_scale(), scale_, 2u * features_);
  std::memset(view.residual_mean(), 0, 2u * outputs);
  std::memcpy(view.residual_scale(), residual_scale_, 2u * outputs);
  for (uint32_t i = 0; i < features_; ++i) view.near_weight()[i] = 0xFFFFu;
  if (view.lives()) std::memset(view.life(), 0, kLifeHeadBytes + 4u * features_);
}

bool Profile::accepts(const AdapterView& view) const {
  const CalibrationHead h = view.head();
  if (h.calibrated > 1 || h.candidate > 1 || h.scorer > 3 || h.learn_slots > capacity) return false;
  if (h.learned > h.learn_slots || h.held > capacity - h.learn_slots) return false;
  if (h.early > early || h.origin > 1) return false;
  if (h.calibrated != 0 && h.learned == 0) return false;
  if (view.lives()) {
    if (!Life::accepts(view.life())) return false;
    const uint8_t* anchor = reinterpret_cast<const uint8_t*>(view.anchor_scale());
    if (Life::has_anchor(view.life()) && !positive(anchor, features_, kScaleMin)) return false;
  }
  for (uint32_t i = 0; classes != 0 && i < capacity; ++i) {
    if (view.labels()[i] >= classes) return false;
  }
  const uint8_t* scale = reinterpret_cast<const uint8_t*>(view.feature_scale());
  const uint8_t* residual = reinterpret_cast<const uint8_t*>(view.residual_scale());
  return positive(scale, features_, kScaleMin) && positive(residual, outputs, kResidualScaleMin);
}

void Profile::calibrate(AdapterView& view, const Reservoir& reservoir) const {
  const uint32_t n = reservoir.learned();
  // Pass 1: mean and variance (Q20 log2^2) of every feature, the variances' mean and the base's.
  // They wait in the place of anchor and unit only after entries were rewritten, so each feature is
  // measured twice: once for the level, once for its own calibration.
  const auto measure = [&](uint32_t i, int64_t& sum) {
    uint64_t squares = 0;
    sum = 0;
    for (uint32_t s = 0; s < n; ++s) {
      const int64_t v = value_of(view, reservoir, s, i);
      sum += v;
      squares += static_cast<uint64_t>(v * v);
    }
    // n * sum of squares - sum^2 >= 0; |v| < 2^17, n < 2^8: below 2^50.
    return (static_cast<uint64_t>(n) * squares - static_cast<uint64_t>(sum * sum)) /
           (uint64_t{n} * n);
  };
  uint64_t level = 0, base_level = 0;  // sums over features, Q20
  for (uint32_t i = 0; i < features_; ++i) {
    int64_t sum;
    level += measure(i, sum);
    const uint64_t base = load_u16(scale_ + 2 * i);
    base_level += base * base / 16;
  }
  if (base_level == 0) base_level = 1;
  for (uint32_t i = 0; i < features_; ++i) {
    int64_t sum;
    const uint64_t variance = measure(i, sum);
    const uint64_t base_scale = load_u16(scale_ + 2 * i);
    uint64_t prior = base_scale * base_scale / 16;  // Q20, below 2^28
    // level / base_level: both below 2^40; the quotient in Q8, at most 2^16.
    if (level_) {
      const uint64_t ratio = clamp<uint64_t>((level << 8) / base_level, 1, 1u << 20);
      prior = (prior * ratio) >> 8;
    }
    const uint64_t shrunk = (n * variance + scale_pseudo_ * prior) / (n + scale_pseudo_);
    const uint32_t scale = square_root(shrunk << 4);  // Q12
    const int64_t base_mean = load_i16(mean_ + 2 * i);
    const int64_t total = sum + mean_pseudo_ * base_mean;
    const int64_t count = n + mean_pseudo_;
    const int64_t mean = (2 * total + (total >= 0 ? count : -count)) / (2 * count);
    const int32_t to_mean = static_cast<int32_t>(clamp<int64_t>(mean, -32768, 32767));
    const uint16_t to_scale = static_cast<uint16_t>(clamp<uint32_t>(scale, kScaleMin, 65535));
    const auto rewrite = [&](uint32_t slot) {
      view.entry(slot)[i] = quantise(value_of(view, reservoir, slot, i), to_mean, to_scale);
    };
    for (uint32_t s = 0; s < n; ++s) rewrite(s);
    for (uint32_t s = 0; s < reservoir.held(); ++s) rewrite(reservoir.first_held() + s);
    for (uint32_t s = 0; s < reservoir.early(); ++s) rewrite(reservoir.first_early() + s);
    view.feature_mean()[i] = static_cast<int16_t>(to_mean);
    view.feature_scale()[i] = to_scale;
  }
}

// An entry back in Q10 feature units. Those that are model inputs already, because an earlier phase
// has calibrated them, lose less than a step.
int32_t Profile::value_of(const AdapterView& view, const Reservoir& reservoir, uint32_t slot,
                          uint32_t feature) const {
  if (!kHasLife || !reservoir.calibrated()) return reservoir.raw(slot, feature);
  const bool coarse = slot < view.capacity() && view.labels()[slot] >= kWaiting;
  const int64_t step = int64_t{view.feature_scale()[feature]} * 32 * (coarse ? kCoarse : 1);
  const int64_t distance = (view.entry(slot)[feature] - zero_point) * step;
  const int32_t half = distance >= 0 ? inverse_input_ / 2 : -inverse_input_ / 2;
  return view.feature_mean()[feature] +
         static_cast<int32_t>(clamp<int64_t>((distance + half) / inverse_input_, -65536, 65535));
}

int8_t Profile::quantise(int32_t value_q10, int32_t mean_q10, uint32_t scale_q12) const {
  // (value - mean) / sigma / input scale, rounded half away from zero. |distance| < 2^18, times
  // 2^14 is below 2^32; half of the divisor is a whole number.
  const int32_t distance = value_q10 - mean_q10;
  const uint32_t size = static_cast<uint32_t>(distance < 0 ? -distance : distance);
  const uint32_t numerator = size * static_cast<uint32_t>(inverse_input_);
  const uint32_t denominator = scale_q12 * 32;
  const uint32_t whole = numerator / denominator;
  const uint32_t up = numerator - whole * denominator >= denominator / 2 ? 1 : 0;
  const int32_t steps = static_cast<int32_t>(whole < 1000 ? whole + up : 1000);
  return static_cast<int8_t>(clamp(zero_point + (distance < 0 ? -steps : steps), -128, 127));
}

void Profile::normalise(const AdapterView& view, const int16_t* features_q10, int8_t* input,
                        uint32_t coarse) const {
  const int16_t* mean = view.feature_mean();
  const uint16_t* scale = view.feature_scale();
  for (uint32_t i = 0; i < features_; ++i)
    input[i] = quantise(features_q10[i], mean[i], scale[i] * coarse);
}

void Profile::calibrate_residuals(AdapterView& view, const int32_t* sum, const uint64_t* squares,
                                  uint32_t n) const {
  const auto variance = [&](uint32_t o) {
    const uint64_t square_of_sum = static_cast<uint64_t>(int64_t{sum[o]} * sum[o]);
    return (n * squares[o] - square_of_sum) / (uint64_t{n} * n);
  };
  uint64_t level = 0, base_level = 0;
  for (uint32_t o = 0; o < outputs; ++o) {
    const uint64_t base = load_u16(residual_scale_ + 2 * o);
    level += variance(o);
    base_level += base * base;
  }
  const uint64_t ratio = clamp<uint64_t>((level << 8) / base_level, 1, 1u << 20);
  for (uint32_t o = 0; o < outputs; ++o) {
    const uint64_t base = load_u16(residual_scale_ + 2 * o);
    const uint64_t prior = (base * base * ratio) >> 8;
    const uint64_t shrunk = (n * variance(o) + residual_pseudo_ * prior) / (n + residual_pseudo_);
    view.residual_scale()[o] =
        static_cast<uint16_t>(clamp<uint32_t>(square_root(shrunk), kResidualScaleMin, 65535));
    const int32_t half = static_cast<int32_t>(n) / 2;
    view.residual_mean()[o] = static_cast<int16_t>(
        clamp((sum[o] + (sum[o] >= 0 ? half : -half)) / static_cast<int32_t>(n), -32768, 32767));
  }
}

}  // namespace kilotune
