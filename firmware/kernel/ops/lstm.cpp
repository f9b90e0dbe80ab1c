// UNIDIRECTIONAL_SEQUENCE_LSTM: int8 inputs and outputs, 16-bit gates and cell state, as TensorFlow
// Lite Micro computes it. Each inference starts from an empty state.
#include "kernel/ops/layer.h"

namespace kilotune {
namespace {

// Input, forget, cell and output gate, in this order everywhere.
constexpr uint32_t kGates = 4, kCellGate = 2;
// Entries of the sigmoid's table: 65536 * sigmoid(i / 24).
constexpr uint32_t kTableEntries = 256;
// The scale of a gate's sum is 2^-12, of its sigmoid or tanh 2^-15, of the cell state 2^power.
constexpr int kGatePower = -12;
constexpr int kCellPowerMin = -24, kCellPowerMax = -9;

// The op's words.
struct Settings {
  int32_t output_multiplier;
  int output_shift, cell_power;
  int32_t cell_limit;  // the cell state stays within +-it; 0: within int16
  uint32_t table;      // image offset
  uint32_t cells;      // arena offset of i16 (units,)
  int32_t zero_point;  // of the outputs; the tensor's may differ
};
Settings settings_of(const Op& op) {
  return {static_cast<int32_t>(op.words[0]),
          static_cast<int8_t>(op.words[1]),
          static_cast<int8_t>(op.words[1] >> 8),
          static_cast<int32_t>(op.words[1] >> 16),
          op.words[2],
          op.words[3],
          static_cast<int8_t>(op.words[4])};
}

// Weights i8 (gate, unit, inputs + units), biases i32 (gate, unit, 2), multipliers i32 and shifts
// i8 (gate, 2): of the inputs, then of the last outputs.
bool scales_valid(const Model& model, const Op& op) {
  for (uint32_t i = 0; i < 2 * kGates; ++i) {
    const int8_t shift = static_cast<int8_t>(*model.at(op.shifts + i));
    if (load_i32(model.at(op.multipliers) + 4 * i) < 0 || shift < -31 || shift > 30) return false;
  }
  return true;
}
bool biases_valid(const Model& model, const Op& op, uint32_t count) {
  constexpr int32_t kBiasMax = 1 << 28;  // below kAccumulatorMax with all products
  for (uint32_t i = 0; i < count; ++i) {
    const int32_t b = load_i32(model.at(op.bias) + 4 * i);
    if (b < -kBiasMax || b > kBiasMax) return false;
  }
  return true;
}
// A table that never falls: what lies between its entries fits 16 bits too.
bool table_valid(const Model& model, uint32_t at) {
  if (!model.image().holds(at, kTableEntries, 2)) return false;
  for (uint32_t i = 1; i < kTableEntries; ++i) {
    if (load_u16(model.at(at) + 2 * i) < load_u16(model.at(at) + 2 * i - 2)) return false;
  }
  return true;
}

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const Bytes& image = model.image();
  const Settings s = settings_of(op);
  const uint64_t units = y.channels, fan_in = units + x.channels;
  const uint64_t weights = kGates * units * fan_in;
  const bool good =
      x.positions() == y.positions() && fan_in <= kMaxFanIn && op.training == 0 &&
      weights <= image.size && image.holds(op.weights, static_cast<uint32_t>(weights), 1) &&
      image.holds(op.bias, static_cast<uint32_t>(2 * kGates * units), 4) &&
      biases_valid(model, op, static_cast<uint32_t>(2 * kGates * units)) &&
      image.holds(op.multipliers, 2 * kGates, 4) && image.holds(op.shifts, 2 * kGates, 1) &&
      scales_valid(model, op) && s.output_multiplier >= 0 && s.output_shift >= -31 &&
      s.output_shift <= 30 && s.cell_power >= kCellPowerMin && s.cell_power <= kCellPowerMax &&
      s.cell_limit <= 32767 && table_valid(model, s.table) &&
      scratch_holds(model, s.cells, 2 * units);
  return good ? Status::ok : Status::bad_image;
}

// The table at v / 2^bits in Q(16 + bits), interpolated linearly; `end` after the last entry.
uint32_t interpolate(const uint8_t* table, uint32_t v, int bits, uint32_t end) {
  const uint32_t i = v >> bits;
  if (i >= kTableEntries - 1) return end;
  const uint32_t low = load_u16(table + 2 * i), high = load_u16(table + 2 * i + 2);
  return (low << bits) + (v & ((1u << bits) - 1)) * (high - low);
}

uint32_t magnitude(int32_t v) {
  return v < 0 ? 0u - static_cast<uint32_t>(v) : static_cast<uint32_t>(v);
}

// Q3.12 to Q0.15.
int32_t sigmoid_q15(const uint8_t* table, int32_t x) {
  const int32_t v = 3 * x;
  const uint32_t q25 = interpolate(table, magnitude(v), 9, 0x7FFFu << 10);
  return static_cast<int32_t>((v >= 0 ? q25 + (1u << 9) : (1u << 25) - q25 + (1u << 9) - 1) >> 10);
}

// x in units of 2^power to Q0.15: 2 * sigmoid(2 * x) - 1.
int32_t tanh_q15(const uint8_t* table, int32_t x, int power) {
  const int up = power - kGatePower;
  const int32_t v = up >= 0 ? x * (3 << up) : (3 * x + (1 << (-up - 1))) >> -up;
  const int32_t q24 = static_cast<int32_t>(interpolate(table, magnitude(v), 8, 0xFFFFu << 8));
  constexpr int32_t kHalf = 1 << 23, kRound = 1 << 7;
  return (v >= 0 ? q24 - kHalf + kRound : kHalf - q24 + kRound - 1) >> 8;
}

int32_t product(const int8_t* w, const int8_t* x, uint32_t n) {
  int32_t sum = 0;
  for (; n >= 4; n -= 4, w += 4, x += 4)
    sum += w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3];
  for (; n != 0; --n) sum += *w++ * *x++;
  return sum;
}

// The state of one layer while it runs.
struct Lstm {
  const uint8_t *weights, *biases, *multipliers, *shifts, *table;
  Settings settings;
  uint32_t inputs, units;
  int16_t* cells;

  // One gate of a unit, before its sigmoid or tanh, from the inputs x and the last outputs h (null:
  // none yet), Q3.12.
  [[nodiscard]] int32_t gate(uint32_t g, uint32_t unit, const int8_t* x, const int8_t* h) const {
    const uint32_t row = g * units + unit;
    const int8_t* w = reinterpret_cast<const int8_t*>(weights) + row * (inputs + units);
    int32_t part = scaled(2 * g, load_i32(biases + 8 * row) + product(w, x, inputs));
    if (h != nullptr) {
      const int32_t acc = load_i32(biases + 8 * row + 4) + product(w + inputs, h, units);
      part = to_i16(part + scaled(2 * g + 1, acc));
    }
    return part;
  }

  void step(const int8_t* x, const int8_t* h, int8_t* y) {
    // All scales are powers of two: from 2^-15 * 2^-15, and 2^-15 * the cell's, to the cell's.
    constexpr int32_t kHalf = 1 << 30;
    const int gain_shift = -29 - settings.cell_power, keep_shift = -14;
    for (uint32_t u = 0; u < units; ++u) {
      const int32_t in = sigmoid_q15(table, gate(0, u, x, h)),
                    keep = sigmoid_q15(table, gate(1, u, x, h));
      const int32_t value = tanh_q15(table, gate(kCellGate, u, x, h), kGatePower);
      const int32_t out = sigmoid_q15(table, gate(3, u, x, h));
      int32_t cell = to_i16(to_i16(requantise(keep * cells[u], kHalf, keep_shift)) +
                            to_i16(requantise(in * value, kHalf, gain_shift)));
      if (settings.cell_limit > 0) cell = clamp(cell, -settings.cell_limit, settings.cell_limit);
      cells[u] = static_cast<int16_t>(cell);
      const int32_t open = tanh_q15(table, cell, settings.cell_power) * out;
      y[u] = to_i8(clamp(requantise_rare(open, settings.output_multiplier, settings.output_shift),
                         -512, 512) +
                   settings.zero_point);
    }
  }

 private:
  // Sums stay below kAccumulatorMax.
  [[nodiscard]] int32_t scaled(uint32_t i, int32_t acc) const {
    const int shift = static_cast<int8_t>(shifts[i]);
    return to_i16(requantise_rare(acc, load_i32(multipliers + 4 * i), shift));
  }
};

void forward(const Execution& run, const Op& op, bool) {
  const Model& model = *run.model;
  const Tensor xt = model.tensor(op.input), yt = model.tensor(op.output);
  const Settings s = settings_of(op);
  Lstm lstm = {aligned4(model.at(op.weights)),
               aligned4(model.at(op.bias)),
               aligned4(model.at(op.multipliers)),
               model.at(op.shifts),
               aligned4(model.at(s.table)),
               s,
               xt.channels,
               yt.channels,
               reinterpret_cast<int16_t*>(run.arena + s.cells)};
  for (uint32_t u = 0; u < lstm.units; ++u) lstm.cells[u] = 0;
  const int8_t *x = run.data(xt), *last = nullptr;
  int8_t* y = run.data(yt);
  for (uint32_t t = 0; t < xt.positions(); ++t, x += lstm.inputs, y += lstm.units) {
    lstm.step(x, last, y);
    last = y;
  }
}

}  // namespace

const OpKernel kLstm = {16, validate, forward, nullptr};

}  // namespace kilotune
