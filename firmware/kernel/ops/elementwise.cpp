// ADD, SUB and MUL of two tensors, or of a tensor and a constant. An extent of 1 is broadcast over
// the output's.
#include "kernel/ops/layer.h"

namespace kilotune {
namespace {

constexpr int kLeftShift = 20;  // TensorFlow Lite's headroom before inputs are brought to one scale
constexpr uint8_t kAddCode = 9, kMulCode = 10;

// Byte i of word 3: a shift.
int shift_at(const Op& op, uint32_t i) { return static_cast<int8_t>(op.words[3] >> (8 * i)); }
// SUB is an ADD with this byte set.
bool subtracts(const Op& op) { return op.words[3] >> 24 != 0; }

// An input. A constant is i8 (height, width, channels) at the op's weights.
struct Operand {
  uint32_t height, width, channels;
  int32_t zero_point;

  [[nodiscard]] bool fits(const Tensor& y) const {
    return (height == 1 || height == y.height) && (width == 1 || width == y.width) &&
           (channels == 1 || channels == y.channels);
  }
  [[nodiscard]] bool whole(const Tensor& y) const {
    return height == y.height && width == y.width && channels == y.channels;
  }
  // Where the values for the output's position begin, and how far they are apart.
  [[nodiscard]] uint32_t at(uint32_t row, uint32_t column) const {
    return ((height == 1 ? 0 : row) * width + (width == 1 ? 0 : column)) * channels;
  }
  [[nodiscard]] uint32_t step() const { return channels == 1 ? 0 : 1; }
};

Operand first_of(const Model& model, const Op& op) {
  const Tensor t = model.tensor(op.input);
  return {t.height, t.width, t.channels, t.zero_point};
}
Operand second_of(const Model& model, const Op& op) {
  if (op.input2 == kNoTensor) {
    return {op.words[4] & 0xFFFFu, op.words[4] >> 16, op.words[5] & 0xFFFFu,
            static_cast<int8_t>(op.words[5] >> 16)};
  }
  const Tensor t = model.tensor(op.input2);
  return {t.height, t.width, t.channels, t.zero_point};
}
const int8_t* second_data(const Execution& run, const Op& op) {
  return op.input2 == kNoTensor ? reinterpret_cast<const int8_t*>(run.model->at(op.weights))
                                : run.data(run.model->tensor(op.input2));
}

bool shapes_valid(const Model& model, const Op& op) {
  const Tensor y = model.tensor(op.output);
  const Operand b = second_of(model, op);
  const uint64_t elements = uint64_t{b.height} * b.width * b.channels;
  if (op.input2 == kNoTensor &&
      (elements > model.image().size ||
       !model.image().holds(op.weights, static_cast<uint32_t>(elements), 1)))
    return false;
  return first_of(model, op).fits(y) && b.fits(y) &&
         only_passes_gradients(op, kBackwardToInput | kBackwardToInput2) &&
         backward_scratch_holds(model, op, 8ull * y.channels);
}

bool scaling_valid(const Op& op, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    if (static_cast<int32_t>(op.words[i]) < 0 || shift_at(op, i) < -31 || shift_at(op, i) > 30)
      return false;
  }
  return true;
}

Status validate_add(const Model& model, const Op& op) {
  return shapes_valid(model, op) && scaling_valid(op, 3) ? Status::ok : Status::bad_image;
}
Status validate_mul(const Model& model, const Op& op) {
  return shapes_valid(model, op) && scaling_valid(op, 1) ? Status::ok : Status::bad_image;
}

int32_t scaled(const Op& op, uint32_t i, int32_t v) {
  return requantise_rare(v, static_cast<int32_t>(op.words[i]), shift_at(op, i));
}

// put(combine(a, b)) with both relative to their zero points.
template <typename Combine>
void forward_with(const Execution& run, const Op& op, bool training, const Combine& combine) {
  const Tensor yt = run.model->tensor(op.output);
  const Operand a = first_of(*run.model, op), b = second_of(*run.model, op);
  const int8_t *a_data = run.data(run.model->tensor(op.input)), *b_data = second_data(run, op);
  const uint32_t a_step = a.step(), b_step = b.step();
  Outputs outputs(run, op, yt, training);
  for (uint32_t row = 0; row < yt.height; ++row) {
    for (uint32_t column = 0; column < yt.width; ++column) {
      const int8_t *va = a_data + a.at(row, column), *vb = b_data + b.at(row, column);
      for (uint32_t c = 0; c < yt.channels; ++c, va += a_step, vb += b_step)
        outputs.put(combine(*va - a.zero_point, *vb - b.zero_point));
    }
  }
}

void forward_add(const Execution& run, const Op& op, bool training) {
  const bool subtract = subtracts(op);
  forward_with(run, op, training, [&](int32_t a, int32_t b) {
    const int64_t other = scaled(op, 1, b * (1 << kLeftShift));
    const int64_t one = scaled(op, 0, a * (1 << kLeftShift));
    return scaled(op, 2, saturate32(subtract ? one - other : one + other));
  });
}

void forward_mul(const Execution& run, const Op& op, bool training) {
  forward_with(run, op, training, [&](int32_t a, int32_t b) { return scaled(op, 0, a * b); });
}

// What the output's gradient is multiplied by on its way to one input: a number, or the other input
// of MUL.
struct Slope {
  const int8_t* other;  // null: `number`
  Operand operand;
  int32_t number;

  [[nodiscard]] int32_t at(uint32_t row, uint32_t column, uint32_t c) const {
    return other == nullptr
               ? number
               : other[operand.at(row, column) + c * operand.step()] - operand.zero_point;
  }
};

// The way of the gradient to one input.
struct Path {
  Tensor to;
  Operand operand;
  Slope slope;
  Real factor;
  bool adds;
};

// Sums the gradient of one position of an input that is broadcast over several outputs.
void sum_position(const Execution& run, const Path& path, const Tensor& yt, uint32_t row,
                  uint32_t column, int32_t* values) {
  const Operand& o = path.operand;
  const uint32_t rows = o.height == 1 ? yt.height : 1, columns = o.width == 1 ? yt.width : 1;
  const auto exponent = [&](uint32_t p) {
    return run.exponents(yt)[(row + p / columns) * yt.width + column + p % columns];
  };
  int top = kZeroExponent;
  for (uint32_t p = 0; p < rows * columns; ++p) top = exponent(p) > top ? exponent(p) : top;
  // Products have 24 bits; as many are dropped as the number of products in a sum requires.
  const uint32_t count = rows * columns * (o.channels == 1 ? yt.channels : 1u);
  const int bits = magnitude_bits(static_cast<int32_t>(count));
  const int extra = bits > 6 ? bits - 6 : 0;
  for (uint32_t c = 0; c < o.channels; ++c) values[c] = 0;
  for (uint32_t p = 0; p < rows * columns; ++p) {
    const int d = top - exponent(p) + extra;
    if (d < 0 || d > 24) continue;
    const uint32_t y = row + p / columns, x = column + p % columns;
    const int16_t* m = run.mantissas(yt) + (y * yt.width + x) * yt.channels;
    for (uint32_t c = 0; c < yt.channels; ++c) {
      const int32_t product = m[c] * path.slope.at(y, x, c);
      int32_t& sum = values[c * o.step()];
      sum = add_wrapping(sum, d == 0 ? product : ((product >> (d - 1)) + 1) >> 1);
    }
  }
  put_gradient(run, path.to, row * o.width + column, values, top + extra, path.factor, path.adds);
}

void sum_all(const Execution& run, const Path& path, const Tensor& yt, int32_t* values) {
  for (uint32_t row = 0; row < path.operand.height; ++row) {
    for (uint32_t column = 0; column < path.operand.width; ++column)
      sum_position(run, path, yt, row, column, values);
  }
}

void backward_along(const Execution& run, const Op& op, const Path& a, const Path& b) {
  const Tensor yt = run.model->tensor(op.output);
  int32_t* values = reinterpret_cast<int32_t*>(run.arena + run.model->op_training(op).scratch);
  const bool to_a = op.has(kBackwardToInput), to_b = op.has(kBackwardToInput2);
  const bool whole_a = to_a && a.operand.whole(yt), whole_b = to_b && b.operand.whole(yt);
  if (to_a && !whole_a) sum_all(run, a, yt, values);
  if (to_b && !whole_b) sum_all(run, b, yt, values);
  if (!whole_a && !whole_b) return;
  uint32_t p = 0;
  for (uint32_t row = 0; row < yt.height; ++row) {
    for (uint32_t column = 0; column < yt.width; ++column, ++p) {
      const int16_t* m = run.mantissas(yt) + p * yt.channels;
      const int exponent = run.exponents(yt)[p];
      int32_t* second = values + yt.channels;
      for (uint32_t c = 0; c < yt.channels; ++c) {  // both before the first's may take their place
        values[c] = whole_a ? m[c] * a.slope.at(row, column, c) : 0;
        second[c] = whole_b ? m[c] * b.slope.at(row, column, c) : 0;
      }
      if (whole_a) put_gradient(run, a.to, p, values, exponent, a.factor, a.adds);
      if (whole_b) put_gradient(run, b.to, p, second, exponent, b.factor, b.adds);
    }
  }
}

void backward(const Execution& run, const Op& op, Step&) {
  const Model& model = *run.model;
  const OpTraining plan = model.op_training(op);
  const Operand a = first_of(model, op), b = second_of(model, op);
  const Tensor at = model.tensor(op.input);
  const Tensor bt = op.input2 == kNoTensor ? at : model.tensor(op.input2);
  const bool product = op.opcode == kMulCode;
  const Slope to_a = {product ? second_data(run, op) : nullptr, b, 1};
  const Slope to_b = {product ? run.data(at) : nullptr, a, subtracts(op) ? -1 : 1};
  backward_along(run, op, {at, a, to_a, plan.factor, op.has(kAddsToInput)},
                 {bt, b, to_b, plan.factor2, op.has(kAddsToInput2)});
}

}  // namespace

const OpKernel kAdd = {kAddCode, validate_add, forward_add, backward};
const OpKernel kMul = {kMulCode, validate_mul, forward_mul, backward};

}  // namespace kilotune
