// Geometry of sliding windows, and the rows that an in-place gradient must keep.
#include "kernel/ops/window.h"

#include "kernel/ops/mantissas.h"

namespace kilotune {
namespace {

constexpr int32_t kMaxSize = 4095, kMaxStride = 255, kMaxDilation = 255;

Axis axis_of(const Op& op, int shift, uint16_t in, uint16_t out) {
  const auto half = [&](uint32_t word) {
    return static_cast<int32_t>((op.words[word] >> shift) & 0xFFFFu);
  };
  return {half(0), half(1), half(2), half(3), in, out};
}

bool axis_valid(const Axis& a) {
  if (a.size < 1 || a.size > kMaxSize || a.stride < 1 || a.stride > kMaxStride) return false;
  if (a.dilation < 1 || a.dilation > kMaxDilation) return false;
  return a.pad <= (a.size - 1) * a.dilation && (a.out - 1) * a.stride - a.pad < a.in;
}

uint32_t even(uint32_t n) { return (n + 1) & ~1u; }

int32_t common_divisor(int32_t a, int32_t b) {
  while (b != 0) {
    const int32_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

}  // namespace

Axis::Sources Axis::sources(int32_t i) const {
  const int32_t reach = i + pad;
  Sources s = {0, 1, reach, dilation, 0};
  if (stride != 1) {
    const int32_t divisor = common_divisor(stride, dilation);
    s.step = stride / divisor;
    s.output_step = dilation / divisor;
    while (s.first < s.step && (reach - s.first * dilation) % stride != 0) ++s.first;
    if (s.first == s.step) return s;
    // Below 0 only where count becomes 0.
    s.output = (reach - s.first * dilation) / stride;
  }
  if (s.output >= out) {  // skip taps that lead beyond the output's end
    const int32_t skipped =
        s.output_step == 1 ? s.output - out + 1 : (s.output - out + s.output_step) / s.output_step;
    s.first += skipped * s.step;
    s.output -= skipped * s.output_step;
  }
  if (s.first >= size || s.output < 0) return s;
  const int32_t by_size = s.step == 1 ? size - s.first : (size - 1 - s.first) / s.step + 1;
  const int32_t by_output = s.output_step == 1 ? s.output + 1 : s.output / s.output_step + 1;
  s.count = by_size < by_output ? by_size : by_output;
  return s;
}

int align_gradient(const Execution& run, const Tensor& t, uint32_t rescale) {
  const int16_t* exponents = run.exponents(t);
  const uint32_t positions = t.positions(), channels = t.channels;
  const uint16_t* factors = reinterpret_cast<const uint16_t*>(aligned4(run.model->at(rescale)));
  const int top = largest_exponent(exponents, positions);
  int16_t* m = run.mantissas(t);
  for (uint32_t p = 0; p < positions; ++p, m += channels) {
    const int d = top - exponents[p];
    if (exponents[p] == kZeroExponent || (d == 0 && rescale == 0)) continue;
    if (d > 15) {
      for (uint32_t c = 0; c < channels; ++c) m[c] = 0;
    } else if (rescale == 0) {
      align_mantissas(m, channels, d);
    } else {
      align_mantissas(m, factors, channels, d);
    }
  }
  return top;
}

Window window_of(const Op& op, const Tensor& x, const Tensor& y) {
  return {axis_of(op, 0, x.height, y.height), axis_of(op, 16, x.width, y.width)};
}

bool window_valid(const Window& w) { return axis_valid(w.y) && axis_valid(w.x); }

void fill_patch(const Window& w, const Tensor& xt, const int8_t* x, int32_t oy, int32_t ox,
                int8_t* patch) {
  const uint32_t n = xt.channels;
  for (int32_t ky = 0; ky < w.y.size; ++ky) {
    const int32_t iy = oy * w.y.stride - w.y.pad + ky * w.y.dilation;
    const bool row = iy >= 0 && iy < w.y.in;
    for (int32_t kx = 0; kx < w.x.size; ++kx, patch += n) {
      const int32_t ix = ox * w.x.stride - w.x.pad + kx * w.x.dilation;
      if (row && ix >= 0 && ix < w.x.in) {
        copy_bytes(patch, x + static_cast<uint32_t>(iy * w.x.in + ix) * n, n);
      } else {
        fill_bytes(patch, xt.zero_point, n);
      }
    }
  }
}

uint64_t window_scratch_bytes(const Window& w, const Tensor& x, const Tensor& y) {
  const uint64_t values = 4ull * x.channels;
  if (x.gradient != y.gradient) return values;
  return values +
         2ull * even(uint32_t{y.width} * y.channels) * static_cast<uint32_t>(w.y.look_back() + 1);
}

GradientRows::GradientRows(const Execution& run, const OpTraining& plan, const Window& w,
                           const Tensor& x, const Tensor& y)
    : mantissas_(run.mantissas(y)),
      ring_(reinterpret_cast<int16_t*>(run.arena + plan.scratch + 4u * x.channels)),
      width_(y.width),
      channels_(y.channels),
      pitch_(even(width_ * channels_)),
      rows_(static_cast<uint32_t>(w.y.look_back() + 1)),
      in_place_(x.gradient == y.gradient) {}

void GradientRows::enter(int32_t row) {
  if (!in_place_) return;
  entered_ = row;
  copy_bytes(saved(row), mantissas_ + static_cast<uint32_t>(row) * width_ * channels_,
             2 * width_ * channels_);
}

}  // namespace kilotune
