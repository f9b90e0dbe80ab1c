// GATHER: each output row, column and channel is one of the input's, or the fill value: PAD,
// RESIZE_NEAREST_NEIGHBOR and STRIDED_SLICE.
#include "kernel/ops/layer.h"

namespace kilotune {
namespace {

constexpr uint16_t kFill = 0xFFFF;
constexpr int kFillWord = 0;

// Tables of u16: rows, columns and channels of the input, in the order of the output's.
struct Maps {
  const uint8_t *rows, *columns, *channels;
  Maps(const Model& model, const Op& op)
      : rows(model.at(op.weights)),
        columns(model.at(op.bias)),
        channels(model.at(op.multipliers)) {}
};

bool map_valid(const Model& model, uint32_t at, uint32_t count, uint32_t extent) {
  if (!model.image().holds(at, count, 2)) return false;
  for (uint32_t i = 0; i < count; ++i) {
    const uint16_t v = load_u16(model.at(at) + 2 * i);
    if (v != kFill && v >= extent) return false;
  }
  return true;
}

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const bool good = map_valid(model, op.weights, y.height, x.height) &&
                    map_valid(model, op.bias, y.width, x.width) &&
                    map_valid(model, op.multipliers, y.channels, x.channels) &&
                    only_passes_gradients(op) &&
                    backward_scratch_holds(model, op, 4ull * x.channels);
  return good ? Status::ok : Status::bad_image;
}

void forward(const Execution& run, const Op& op, bool) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const Maps maps(*run.model, op);
  const int8_t fill = static_cast<int8_t>(op.words[kFillWord] & 0xFFu);
  int8_t* y = run.data(yt);
  for (uint32_t oy = 0; oy < yt.height; ++oy) {
    const uint16_t iy = load_u16(maps.rows + 2 * oy);
    for (uint32_t ox = 0; ox < yt.width; ++ox) {
      const uint16_t ix = load_u16(maps.columns + 2 * ox);
      const bool inside = iy != kFill && ix != kFill;
      const int8_t* x = run.data(xt) + (inside ? (uint32_t{iy} * xt.width + ix) * xt.channels : 0);
      for (uint32_t c = 0; c < yt.channels; ++c) {
        const uint16_t from = load_u16(maps.channels + 2 * c);
        *y++ = inside && from != kFill ? x[from] : fill;
      }
    }
  }
}

// The gradient of an input value is the sum over the outputs that copy it.
void backward(const Execution& run, const Op& op, Step&) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const OpTraining plan = run.model->op_training(op);
  const Maps maps(*run.model, op);
  int32_t* values = reinterpret_cast<int32_t*>(run.arena + plan.scratch);
  constexpr int kFraction = 8;  // smaller parts of a sum keep some of their bits
  for (uint32_t iy = 0; iy < xt.height; ++iy) {
    for (uint32_t ix = 0; ix < xt.width; ++ix) {
      for (uint32_t c = 0; c < xt.channels; ++c) values[c] = 0;
      int top = kZeroExponent;
      for (int pass = 0; pass < 2; ++pass) {  // the largest exponent, then the sums
        for (uint32_t oy = 0; oy < yt.height; ++oy) {
          if (load_u16(maps.rows + 2 * oy) != iy) continue;
          for (uint32_t ox = 0; ox < yt.width; ++ox) {
            if (load_u16(maps.columns + 2 * ox) != ix) continue;
            const uint32_t p = oy * yt.width + ox;
            const int e = run.exponents(yt)[p];
            if (pass == 0) {
              top = e > top ? e : top;
              continue;
            }
            if (top - e > 16) continue;
            const int16_t* m = run.mantissas(yt) + p * yt.channels;
            for (uint32_t c = 0; c < yt.channels; ++c) {
              const uint16_t to = load_u16(maps.channels + 2 * c);
              if (to == kFill) continue;
              values[to] =
                  add_wrapping(values[to], align_mantissa(m[c] * (1 << kFraction), top - e));
            }
          }
        }
      }
      put_gradient(run, xt, iy * xt.width + ix, values, top - kFraction, plan.factor,
                   op.has(kAddsToInput));
    }
  }
}

}  // namespace

const OpKernel kGather = {12, validate, forward, backward};

}  // namespace kilotune
