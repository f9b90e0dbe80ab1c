// MEAN over any of height, width and channels. Words 0 and 1 are multiplier and shift, with the
// count included in the multiplier; word 2 has the reduced axes.
#include "kernel/ops/layer.h"

namespace kilotune {
namespace {

constexpr uint32_t kMaxCount = 1u << 22;  // keeps the sum below 2^30
enum Axes : uint32_t { kHeight = 1, kWidth = 2, kChannels = 4 };

// Extents that are kept, or that one value is the mean of: the products of both multiply to the
// input's elements.
struct Extents {
  uint32_t height, width, channels;
  [[nodiscard]] uint64_t count() const { return uint64_t{height} * width * channels; }
};
Extents chosen(const Tensor& x, uint32_t axes) {
  return {(axes & kHeight) != 0 ? x.height : 1u, (axes & kWidth) != 0 ? x.width : 1u,
          (axes & kChannels) != 0 ? x.channels : 1u};
}
Extents kept_of(const Tensor& x, const Op& op) { return chosen(x, ~op.words[2]); }
Extents reduced_of(const Tensor& x, const Op& op) { return chosen(x, op.words[2]); }

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const int32_t shift = static_cast<int32_t>(op.words[1]);
  const uint32_t axes = op.words[2];
  // Kept channels are the output's, however its height and width are arranged: so all values that
  // one position yields are in one position.
  const bool good = axes >= 1 && axes <= 7 && kept_of(x, op).count() == y.elements() &&
                    ((axes & kChannels) != 0 || x.channels == y.channels) &&
                    reduced_of(x, op).count() <= kMaxCount &&
                    static_cast<int32_t>(op.words[0]) >= 0 && shift >= -31 && shift <= 30 &&
                    only_passes_gradients(op) &&
                    backward_scratch_holds(model, op, 4ull * x.channels);
  return good ? Status::ok : Status::bad_image;
}

int32_t sum(const int8_t* x, const Tensor& t, const Extents& reduced) {
  int32_t total = 0;
  for (uint32_t h = 0; h < reduced.height; ++h) {
    const int8_t* row = x + h * t.width * t.channels;
    for (uint32_t w = 0; w < reduced.width; ++w, row += t.channels) {
      for (uint32_t c = 0; c < reduced.channels; ++c) total += row[c];
    }
  }
  return total;
}

void forward(const Execution& run, const Op& op, bool training) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const Extents kept = kept_of(xt, op), reduced = reduced_of(xt, op);
  const int32_t centre = static_cast<int32_t>(reduced.count()) * xt.zero_point;
  const int32_t multiplier = static_cast<int32_t>(op.words[0]);
  const int shift = static_cast<int32_t>(op.words[1]);
  Outputs outputs(run, op, yt, training);
  for (uint32_t h = 0; h < kept.height; ++h) {
    for (uint32_t w = 0; w < kept.width; ++w) {
      const int8_t* x = run.data(xt) + (h * xt.width + w) * xt.channels;
      for (uint32_t c = 0; c < kept.channels; ++c)
        outputs.put(requantise(sum(x + c, xt, reduced) - centre, multiplier, shift));
    }
  }
}

// Every value has the same share; the unit of the input's gradient holds 1 / count.
void backward(const Execution& run, const Op& op, Step&) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const OpTraining plan = run.model->op_training(op);
  const Extents kept = kept_of(xt, op);
  int32_t* values = reinterpret_cast<int32_t*>(run.arena + plan.scratch);
  for (uint32_t p = 0; p < xt.positions(); ++p) {
    const uint32_t h = kept.height == 1 ? 0 : p / xt.width, w = kept.width == 1 ? 0 : p % xt.width;
    const uint32_t first = (h * kept.width + w) * kept.channels;
    const int16_t* m = run.mantissas(yt) + first;
    for (uint32_t c = 0; c < xt.channels; ++c) values[c] = m[kept.channels == 1 ? 0 : c];
    put_gradient(run, xt, p, values, run.exponents(yt)[first / yt.channels], plan.factor,
                 op.has(kAddsToInput));
  }
}

}  // namespace

const OpKernel kMean = {7, validate, forward, backward};

}  // namespace kilotune
