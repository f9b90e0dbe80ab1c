// Distances from the first learn phase, re-calibration within its budget, drift of parameters.
#include "runtime/learn/guard.h"

#include "kernel/fixed_log.h"
#include "kernel/fixed_point.h"
#include "kernel/ops/op.h"
#include "runtime/learn/neighbours.h"

namespace kilotune {
namespace {

constexpr uint32_t kEarlyNeighbours = 2;

uint16_t to_u16(uint64_t v) { return static_cast<uint16_t>(clamp<uint64_t>(v, 0, 65535)); }

// What re-calibration would add to feature i, in model input steps.
int32_t age_step(const Profile& profile, const Trend& trend, uint32_t i) {
  const int32_t limit = profile.sigma_lsb / static_cast<int32_t>(kAgeStep);
  return clamp((trend.mean(i) + (trend.mean(i) >= 0 ? 32 : -32)) / 64, -limit, limit);
}

uint16_t weight_drift(const Model& model, const Op& op, const uint8_t* adapter) {
  const WeightChange c =
      model.kernel(op.opcode)->weights->change(model, op, adapter + op.weight_param);
  return to_u16(uint64_t{square_root(c.moved)} * 1000 / (uint64_t{square_root(c.size)} + 1));
}

uint16_t bias_drift(const Model& model, const Op& op, const uint8_t* adapter) {
  const uint32_t n = model.tensor(op.output).channels;
  const int fraction = model.op_training(op).bias_fraction_bits;
  uint64_t sum = 0;
  for (uint32_t o = 0; o < n; ++o) {
    const uint32_t channel = op.has(kPerChannel) ? o : 0;
    const int64_t multiplier = load_i32(model.at(op.multipliers + 4 * channel));
    const int shift = static_cast<int8_t>(*model.at(op.shifts + channel));
    // Output steps in Q4: |delta| <= 2^28, multiplier < 2^31, so the product is below 2^59.
    const int64_t product = load_i32(adapter + op.bias_param + 4 * o) * multiplier;
    const int down = 31 - shift + fraction - 4;
    const int64_t steps = down >= 63 ? 0 : (down >= 0 ? product >> down : kInt32Max);
    const int64_t d = clamp<int64_t>(steps, -4096, 4096);
    sum += static_cast<uint64_t>(d * d);
  }
  return to_u16(uint64_t{square_root(sum / n)} * 1000 / (16 * 255));
}

}  // namespace

int32_t origin_distance(const Profile& profile, const AdapterView& view, const int8_t* x) {
  uint32_t sum = 0;  // below 2^16 * 2^16
  const uint32_t n = view.features();
  for (uint32_t i = 0; i < n; ++i) {
    const int32_t d = x[i] - profile.zero_point;
    sum += static_cast<uint32_t>(d * d);
  }
  return log2_q10(uint64_t{sum} + 1) - log2_q10(n);
}

int32_t early_distance(const AdapterView& view, const int8_t* x, uint32_t early, uint32_t skip) {
  const Slots among = {view.capacity(), early, skip};
  return log2_q10(uint64_t{nearest_slots(view, x, among, kEarlyNeighbours).mean_distance} + 1) -
         log2_q10(view.features());
}

bool offer_drifted(const Profile& profile, const AdapterView& view, const int8_t* x, Offered& sum) {
  const CalibrationHead head = view.head();
  if (head.origin == 0) return false;
  const int32_t origin = origin_distance(profile, view, x);
  int32_t early = 0;
  bool far = origin > head.origin_limit;
  if (head.early >= kLeastEarly) {
    early = early_distance(view, x, head.early, kNoSlot);
    far = far || early > head.early_limit;
  }
  // Distances are below 2^14, so that 2^16 windows fit.
  if (sum.windows < kMostWindows) {
    sum.origin += origin;
    sum.early += early;
  }
  return far;
}

int32_t shift_q10(const Profile& profile, const AdapterView& view, const Offered& sum) {
  const CalibrationHead head = view.head();
  int32_t origin = 0, early = 0;
  for (uint32_t e = 0; e < head.early; ++e) {
    const uint32_t slot = view.capacity() + e;
    origin += origin_distance(profile, view, view.entry(slot));
    early += early_distance(view, view.entry(slot), head.early, slot);
  }
  const int32_t n = head.early;
  const int32_t windows =
      static_cast<int32_t>(sum.windows < kMostWindows ? sum.windows : kMostWindows);
  const auto part = [](int32_t now, int32_t mean, int32_t limit) {
    const int32_t room = limit - mean < 64 ? 64 : limit - mean;  // a foreign adapter may have none
    return clamp((now - mean) * 1024 / room, -4096, 4096);
  };
  return (part(sum.origin / windows, origin / n, head.origin_limit) +
          part(sum.early / windows, early / n, head.early_limit)) /
         2;
}

uint16_t unsteadiness(const AdapterView& view, const Trend& trend) {
  const uint32_t n = view.features();
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; ++i) {
    // Q10 over Q12, in 1/1000.
    const int32_t d = (trend.mean(i) - view.feature_mean()[i]) * 4000 / view.feature_scale()[i];
    const int64_t bounded = clamp(d, -60000, 60000);
    sum += static_cast<uint64_t>(bounded * bounded);
  }
  return to_u16(square_root(sum / n));
}

uint16_t aged_permille(const Profile& profile, const AdapterView& view) {
  const uint32_t n = view.features();
  uint32_t sum = 0;
  for (uint32_t i = 0; i < n; ++i) {
    sum += static_cast<uint32_t>(int32_t{view.aged()[i]} * view.aged()[i]);
  }
  // Q8 inside the root, so that a few steps are not lost.
  const uint64_t rms_q4 = square_root((uint64_t{sum} << 8) / n);
  return to_u16(rms_q4 * 1000 / (16u * static_cast<uint32_t>(profile.sigma_lsb)));
}

bool follow_age(const Profile& profile, const AdapterView& view, const Trend& trend) {
  const uint32_t n = view.features();
  const uint32_t sigma = static_cast<uint32_t>(profile.sigma_lsb);
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; ++i) {
    const int64_t total = view.aged()[i] + age_step(profile, trend, i);
    sum += static_cast<uint64_t>(total * total);
  }
  if (sum * kAgeBudget * kAgeBudget > uint64_t{n} * sigma * sigma) return false;
  for (uint32_t i = 0; i < n; ++i) {
    const int32_t total = clamp(view.aged()[i] + age_step(profile, trend, i), -127, 127);
    const int32_t step = total - view.aged()[i];
    view.aged()[i] = static_cast<int8_t>(total);
    // Steps of 1/sigma_lsb sigma, Q12 log2 a sigma; means are Q10.
    const int32_t move =
        step * static_cast<int32_t>(view.feature_scale()[i]) / (4 * profile.sigma_lsb);
    view.feature_mean()[i] = to_i16(view.feature_mean()[i] + move);
  }
  return true;
}

Drift parameter_drift(const Model& model, const uint8_t* adapter) {
  Drift drift = {0, 0};
  for (uint16_t i = 0; i < model.op_count; ++i) {
    const Op op = model.op(i);
    if (op.has(kWeightsTrained)) {
      const uint16_t w = weight_drift(model, op, adapter);
      drift.weights = w > drift.weights ? w : drift.weights;
    }
    if (op.has(kBiasTrained)) {
      const uint16_t b = bias_drift(model, op, adapter);
      drift.biases = b > drift.biases ? b : drift.biases;
    }
  }
  return drift;
}

}  // namespace kilotune
