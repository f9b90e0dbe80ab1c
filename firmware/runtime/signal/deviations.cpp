// In runs that end where the ring or a stretch of the Hann window does.
#include "runtime/signal/deviations.h"

#include "runtime/signal/fft.h"
#include "runtime/signal/wide.h"

namespace kilotune {
namespace {

// A stretch of the periodic Hann window, Q31: its values, or those of a cosine from which they
// follow as 1/2 - cosine/2.
enum class Wave : uint8_t { hann, cosine, negative_cosine };
struct Stretch {
  uint32_t end;          // the sample behind it
  const int32_t* value;  // of its first sample
  int32_t step;          // from value to value, 1 or -1
  Wave wave;
};

template <Wave kWave>
inline int32_t hann(int32_t value) {
  if (kWave == Wave::hann) return value;
  return 0x3FFFFFFF - ((kWave == Wave::cosine ? value : -value) >> 1);
}

// The stretch that begins at sample `i`: half of a window that has a table, a quarter of one that
// the sines give.
Stretch hann_stretch(const FeatureConfig& c, uint32_t i) {
  const uint32_t n = c.window, quarter = n / 4;
  if (c.hann_q31 != nullptr) {
    const uint32_t middle = n / 2 + 1;
    if (i < middle) return {middle, c.hann_q31 + i, 1, Wave::hann};
    return {n, c.hann_q31 + (n - i), -1, Wave::hann};
  }
  const uint32_t which = i / quarter, end = (which + 1) * quarter, past = i - which * quarter;
  const bool falls = which % 2 == 0;
  return {end, c.sine_q31 + (falls ? quarter - past : past), falls ? -1 : 1,
          which == 0 || which == 3 ? Wave::cosine : Wave::negative_cosine};
}

// The deviations of one axis on their way into the FFT.
class Filling {
 public:
  // v << shift is sample * factor - offset: below 2^30, whatever overflows on the way.
  Filling(const FeatureConfig& c, const AxisSums& s, int32_t* out)
      : out_(out),
        axes_(c.axes),
        points_(c.fft_points),
        factor_(uint32_t{c.window} << s.shift),
        offset_(static_cast<uint32_t>(s.sum) << s.shift) {}

  // Samples `i` to `end`, the first of them at `x`.
  void run(const int16_t* x, uint32_t i, uint32_t end, const Stretch& from) const {
    const bool rises = from.step > 0;
    if (from.wave == Wave::hann) return run<Wave::hann, 0>(x, i, end, from);
    if (from.wave == Wave::cosine) {
      return rises ? run<Wave::cosine, 1>(x, i, end, from) : run<Wave::cosine, -1>(x, i, end, from);
    }
    return rises ? run<Wave::negative_cosine, 1>(x, i, end, from)
                 : run<Wave::negative_cosine, -1>(x, i, end, from);
  }

 private:
  [[nodiscard]] int32_t windowed(int32_t sample, int32_t hann) const {
    const uint32_t v = static_cast<uint32_t>(sample) * factor_ - offset_;
    return high_product(static_cast<int32_t>(v), hann);
  }
  [[nodiscard]] int32_t* pair(uint32_t i) const { return out_ + 2 * fft_place(i, points_); }

  // kStep 0: `from` has it.
  template <Wave kWave, int kStep>
  void run(const int16_t* x, uint32_t i, uint32_t end, const Stretch& from) const {
    const int32_t* h = from.value;
    const int32_t step = kStep != 0 ? kStep : from.step;
    if ((i & 1u) != 0 && i < end) {
      pair(i++ / 2)[1] = windowed(*x, hann<kWave>(*h));
      x += axes_;
      h += step;
    }
    const uint32_t last = end / 2;
    for (i /= 2; i < last; ++i, x += 2 * axes_, h += 2 * step) {
      int32_t* const to = pair(i);
      to[0] = windowed(x[0], hann<kWave>(h[0]));
      to[1] = windowed(x[axes_], hann<kWave>(h[step]));
    }
    if (2 * i < end) *pair(i) = windowed(*x, hann<kWave>(*h));
  }

  int32_t* out_;
  uint32_t axes_, points_, factor_, offset_;
};

}  // namespace

void fill(const FeatureConfig& c, const int16_t* axis, uint32_t first, const AxisSums& s,
          int32_t* out) {
  const Filling filling(c, s, out);
  const uint32_t n = c.window, around = n - first;  // the sample at the ring's start
  if (n != c.fft_points) {
    for (uint32_t i = 0; i < c.fft_points; ++i) out[i] = 0;
  }
  for (uint32_t i = 0; i < n;) {
    const Stretch stretch = hann_stretch(c, i);
    const uint32_t end = i < around && around < stretch.end ? around : stretch.end;
    const uint32_t at = i < around ? first + i : i - around;
    filling.run(axis + at * c.axes, i, end, stretch);
    i = end;
  }
}

}  // namespace kilotune
