// Effective and trained weights of layers that are trained in part.
#include "kernel/ops/adapted.h"

namespace kilotune {
namespace {

constexpr uint32_t kPiece = 32;  // weights made at a time

uint32_t even(uint32_t n) { return (n + 1) & ~1u; }

uint32_t count(const Model& model, const Op& op) { return AdaptedLayer(model, op).weights.count(); }

void reset(const Model& model, const Op& op, int16_t* values) {
  const AdaptedLayer l(model, op);
  if (l.weights.rank() != 0) {  // A, then B: 0, so that nothing is added
    const uint32_t n = l.weights.rank() * l.fan_in;
    for (uint32_t k = 0; k < n; ++k)
      values[k] = static_cast<int16_t>(l.weights.start()[k] * kFactorStart);
    std::memset(values + n, 0, 2u * (l.weights.count() - n));
    return;
  }
  for (uint32_t o = 0; o < l.y.channels; ++o) {
    if (!l.weights.trained(o)) continue;
    start_weights(l.weights.base(o), l.fan_in, values);
    values += l.fan_in;
  }
}

bool valid(const Model& model, const Op& op, const uint8_t* values) {
  const AdaptedLayer l(model, op);
  const uint32_t factors = l.weights.rank() * l.fan_in;  // of A; B may be any int16 but -2^15
  for (uint32_t k = 0; l.weights.rank() != 0 && k < l.weights.count(); ++k) {
    const int32_t v = load_i16(values + 2 * k), limit = k < factors ? kFactorMax : 32767;
    if (v < -limit || v > limit) return false;
  }
  for (uint32_t o = 0; l.weights.rank() == 0 && o < l.y.channels; ++o) {
    if (!l.weights.trained(o)) continue;
    if (!weights_in_range(l.weights.base(o), l.fan_in, values)) return false;
    values += 2 * l.fan_in;
  }
  return true;
}

// Of a low-rank sum, what it adds to the int8 weights; of channels, their own values.
WeightChange change(const Model& model, const Op& op, const uint8_t* values) {
  const AdaptedLayer l(model, op);
  WeightChange sum;
  for (uint32_t o = 0; o < l.y.channels; ++o) {
    if (!l.weights.trained(o)) continue;
    const int8_t* const base = l.weights.base(o);
    if (l.weights.rank() == 0) {
      add_change(base, l.fan_in, values, sum);
      values += 2 * l.fan_in;
      continue;
    }
    for (uint32_t i = 0; i < l.fan_in; i += kPiece) {
      const uint32_t n = l.fan_in - i < kPiece ? l.fan_in - i : kPiece;
      int8_t now[kPiece];
      l.weights.fill(reinterpret_cast<const int16_t*>(values), o, i, n, now);
      for (uint32_t k = 0; k < n; ++k) sum.add(base[i + k] * 256, now[k] * 256);
    }
  }
  return sum;
}

}  // namespace

const TrainedWeights kAdaptedWeights = {count, reset, valid, change};

Window adapted_window(const Op& op, const Tensor& x, const Tensor& y) {
  if (op.words[0] != 0) return window_of(op, x, y);
  return {{x.height, 1, 1, 0, x.height, y.height}, {x.width, 1, 1, 0, x.width, y.width}};
}

AdaptedWeights::AdaptedWeights(const Model& model, const Op& op, uint32_t out, uint32_t fan_in)
    : entry_{model.at(op.words[kAdaptationWord])},
      table_(model.at(entry_.table())),
      base_(reinterpret_cast<const int8_t*>(model.at(op.weights))),
      out_(out),
      fan_in_(fan_in),
      rank_(entry_.rank()),
      channels_(entry_.channels()) {}

uint64_t adapted_scratch_bytes(const Model& model, const Op& op) {
  const AdaptedLayer l(model, op);
  const uint64_t positions = even(l.y.positions());
  const uint64_t weights = (l.weights.rank() == 0 ? 2 : 6) * positions;
  if (!op.has(kBackwardToInput)) return weights;
  const bool matrix = l.weights.rank() != 0 && !l.whole;
  const uint64_t rows = matrix ? uint64_t{l.y.channels} * l.fan_in : l.x.channels;
  const uint64_t on = 4ull * l.x.channels + rows;
  return on > weights ? on : weights;
}

}  // namespace kilotune
