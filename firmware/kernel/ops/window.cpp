// Geometry of sliding windows, and the rows that an in-place gradient must remember.
#include "kernel/ops/window.h"

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

}  // namespace

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
        std::memcpy(patch, x + static_cast<uint32_t>(iy * w.x.in + ix) * n, n);
      } else {
        std::memset(patch, xt.zero_point, n);
      }
    }
  }
}

uint64_t window_scratch_bytes(const Window& w, const Tensor& x, const Tensor& y) {
  const uint64_t values = 4ull * x.channels;
  if (x.gradient != y.gradient) return values;
  const uint64_t row = even(y.width) + uint64_t{y.width} * y.channels;
  return values + 2 * row * static_cast<uint32_t>(w.y.look_back() + 1);
}

GradientRows::GradientRows(const Execution& run, const OpTraining& plan, const Window& w,
                           const Tensor& x, const Tensor& y)
    : mantissas_(run.mantissas(y)),
      exponents_(run.exponents(y)),
      ring_(reinterpret_cast<int16_t*>(run.arena + plan.scratch + 4u * x.channels)),
      width_(y.width),
      even_(even(y.width)),
      channels_(y.channels),
      rows_(static_cast<uint32_t>(w.y.look_back() + 1)),
      in_place_(x.gradient == y.gradient) {}

void GradientRows::enter(int32_t row) {
  if (!in_place_) return;
  entered_ = row;
  int16_t* to = saved(row);
  std::memcpy(to, exponents_ + static_cast<uint32_t>(row) * width_, 2 * width_);
  std::memcpy(to + even_, mantissas_ + static_cast<uint32_t>(row) * width_ * channels_,
              2 * width_ * channels_);
}

}  // namespace kilotune
