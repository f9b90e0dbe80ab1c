// Sliding windows of convolutions and pooling: their geometry, and the backward pass through them.
#ifndef KILOTUNE_KERNEL_OPS_WINDOW_H_
#define KILOTUNE_KERNEL_OPS_WINDOW_H_

#include <cstdint>

#include "kernel/ops/copy.h"
#include "kernel/ops/layer.h"

namespace kilotune {

// One axis. Output position o covers input positions o * stride - pad + k * dilation, k < size.
struct Axis {
  int32_t size, stride, dilation, pad, in, out;

  // Taps through which an input position contributes to output positions: taps first, first + step,
  // ... contribute to outputs output, output - output_step, ...
  struct Sources {
    int32_t first, step, output, output_step, count;
  };
  [[nodiscard]] Sources sources(int32_t i) const;
  // The output position that tap k of input position i belongs to, -1: none.
  [[nodiscard]] int32_t source(int32_t i, int32_t k) const {
    const int32_t t = i + pad - k * dilation;
    if (t < 0) return -1;
    if (stride == 1) return t < out ? t : -1;
    return t % stride == 0 && t / stride < out ? t / stride : -1;
  }
  // Earlier output positions that an input position's gradient comes from.
  [[nodiscard]] int32_t look_back() const {
    const int32_t reach = (size - 1) * dilation - pad;
    return reach > 0 ? reach : 0;
  }
};

struct Window {
  Axis y, x;  // vertical, horizontal

  [[nodiscard]] int32_t taps() const { return y.size * x.size; }
  // Each output position reads exactly the input position at its place.
  [[nodiscard]] bool pointwise() const {
    return taps() == 1 && y.stride == 1 && x.stride == 1 && y.pad == 0 && x.pad == 0;
  }
};

// Words 0 to 3 of the op: kernel, stride, dilation, padding before; each height | width << 16.
Window window_of(const Op& op, const Tensor& x, const Tensor& y);
// Whether extents are in range, and the first and the last window of each axis overlap the input.
bool window_valid(const Window& w);

// The inputs under the window at (oy, ox); outside the input, its zero point.
void fill_patch(const Window& w, const Tensor& xt, const int8_t* x, int32_t oy, int32_t ox,
                int8_t* patch);

// Bytes that window_backward needs: int32 values of one position and, where the gradients of input
// and output lie in one place, the rows of the latter that are still needed.
uint64_t window_scratch_bytes(const Window& w, const Tensor& x, const Tensor& y);

// Rows of the output's gradient, which the rows of the input's may overwrite.
class GradientRows {
 public:
  GradientRows(const Execution& run, const OpTraining& plan, const Window& w, const Tensor& x,
               const Tensor& y);
  // Call before the input's row `row` is written.
  void enter(int32_t row);
  [[nodiscard]] const int16_t* mantissas(int32_t row, int32_t column) const {
    const uint32_t at = static_cast<uint32_t>(column) * channels_;
    return row > entered_ ? mantissas_ + static_cast<uint32_t>(row) * width_ * channels_ + at
                          : saved(row) + at;
  }

 private:
  [[nodiscard]] int16_t* saved(int32_t row) const {
    return ring_ + static_cast<uint32_t>(row) % rows_ * pitch_;
  }

  const int16_t* mantissas_;
  int16_t* ring_;
  uint32_t width_, channels_, pitch_, rows_;
  int32_t entered_ = -1;
  bool in_place_;
};

// Brings all positions of a layer's gradient m to the largest exponent among them, which it
// returns: m'(o) = round(m(o) * R(o) / 2^15 / 2^(difference)) in place, halves up; differences of
// more than 15 bits vanish. R(o), the channel's weight scale over the largest, is 1 where
// `rescale` is 0.
int align_gradient(const Execution& run, const Tensor& t, uint32_t rescale);

// For each position of the input: taps(iy, ix, vertical sources, horizontal sources, rows, values)
// adds the contributions of the output's gradient to `values` (channels of the input), whose unit
// is 2^exponent.
template <typename Taps>
void window_backward(const Execution& run, const Op& op, const Window& w, int exponent,
                     const Taps& taps) {
  const Tensor xt = run.model->tensor(op.input), yt = run.model->tensor(op.output);
  const OpTraining plan = run.model->op_training(op);
  int32_t* values = reinterpret_cast<int32_t*>(run.arena + plan.scratch);
  GradientRows rows(run, plan, w, xt, yt);
  uint32_t position = 0;
  for (int32_t iy = 0; iy < w.y.in; ++iy) {
    rows.enter(iy);
    const Axis::Sources vertical = w.y.sources(iy);
    for (int32_t ix = 0; ix < w.x.in; ++ix, ++position) {
      clear_words(values, xt.channels);
      taps(iy, ix, vertical, w.x.sources(ix), rows, values);
      put_gradient(run, xt, position, values, exponent, plan.factor, op.has(kAddsToInput));
    }
  }
}

// The same with add(iy, ix, oy, ox, tap, mantissas, values) for each output position to which an
// input position contributed.
template <typename Add>
void over_sources(const Execution& run, const Op& op, const Window& w, int exponent,
                  const Add& add) {
  window_backward(run, op, w, exponent,
                  [&](int32_t iy, int32_t ix, const Axis::Sources& vertical,
                      const Axis::Sources& horizontal, const GradientRows& rows, int32_t* values) {
                    for (int32_t r = 0; r < vertical.count; ++r) {
                      const int32_t oy = vertical.output - r * vertical.output_step;
                      const int32_t ky = vertical.first + r * vertical.step;
                      for (int32_t c = 0; c < horizontal.count; ++c) {
                        const int32_t ox = horizontal.output - c * horizontal.output_step;
                        const int32_t tap = ky * w.x.size + horizontal.first + c * horizontal.step;
                        add(iy, ix, oy, ox, tap, rows.mantissas(oy, ox), values);
                      }
                    }
                  });
}

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_WINDOW_H_
