// Per axis: mean, Hann window, FFT, band energies, statistics.
#include "runtime/signal/features.h"

#include "kernel/fixed_log.h"
#include "runtime/signal/band.h"
#include "runtime/signal/deviations.h"
#include "runtime/signal/fft.h"
#include "runtime/signal/stages.h"
#include "runtime/signal/wide.h"

namespace kilotune {
namespace {

constexpr int32_t kOneQ16 = 65536;
constexpr int kMomentBits = 15;  // a deviation is rounded to this many bits for its fourth power

AxisSums sums_of(const FeatureConfig& c, const AxisRange& range) {
  AxisSums s;
  s.sum = range.sum;
  const int32_t n = c.window;
  const int32_t above = range.high * n - s.sum, below = s.sum - range.low * n;
  s.peak = above > below ? above : below;
  s.shift = s.peak == 0 ? 0 : __builtin_clz(static_cast<uint32_t>(s.peak)) - 2;
  return s;
}

void add_moments(const FeatureConfig& c, const int16_t* samples, AxisSums& s) {
  const int32_t n = c.window, gain = 1 << s.shift;
  constexpr int kDrop = 30 - kMomentBits;
  for (uint32_t i = 0; i < c.window; ++i, samples += c.axes) {
    const int32_t v = *samples * n - s.sum;
    s.square += wide_square(v);
    const int32_t q = (v * gain + (1 << (kDrop - 1))) >> kDrop;  // |q| <= 2^15
    s.fourth += wide_square(q * q) >> 11;                        // q * q is at most 2^30
  }
}

int16_t to_q10(int32_t q16) {
  const int32_t q10 = (q16 + 32) >> 6;
  if (q10 > INT16_MAX) return INT16_MAX;
  if (q10 < INT16_MIN) return INT16_MIN;
  return static_cast<int16_t>(q10);
}

// |X(k) / points|^2 at `z`. By Parseval's theorem those of all bins add up to less than 2^58.
inline uint64_t bin_energy(const int32_t* z) { return wide_square(z[0]) + wide_square(z[1]); }

// Weighted sum of the energies of `n` bins, over 2^kEnergyDrop; the weight grows by `step`.
inline uint64_t run_energy(const int32_t* z, uint32_t n, uint32_t weight, uint32_t step) {
  uint64_t sum = 0;
  for (const int32_t* const end = z + 2 * n; z != end; z += 2, weight += step)
    sum += weighed(bin_energy(z) >> kEnergyDrop, weight);
  return sum;
}

// Weighted sum of energies, over 2^kEnergyDrop: below 2^(58 - 12 + 16) = 2^62. Weights rise up to
// the centre and fall behind it. The bins at both ends of the spectrum have one part each.
uint64_t band_energy(const Band& band, const int32_t* spectrum, uint32_t nyquist) {
  uint64_t sum = 0;
  const auto alone = [&](int32_t part, uint32_t bin) {
    sum += weighed(wide_square(part) >> kEnergyDrop, static_cast<uint32_t>(band.weight(bin)));
  };
  uint32_t first = band.first, end = band.end;
  if (first == 0) alone(spectrum[0], first++);
  if (end > nyquist) alone(spectrum[1], --end);
  if (first >= end) return sum;
  const int32_t* const z = spectrum + 2 * first;
  const uint32_t weight = static_cast<uint32_t>(band.weight(first));
  if (band.half_width == 0) return sum + run_energy(z, end - first, weight, 0);
  const uint32_t centre = static_cast<uint32_t>(band.centre + 31) / 32;  // the first bin from there
  const uint32_t top = centre < first ? first : (centre < end ? centre : end);
  sum += run_energy(z, top - first, weight, 32);
  if (top == end) return sum;
  return sum + run_energy(spectrum + 2 * top, end - top, static_cast<uint32_t>(band.weight(top)),
                          static_cast<uint32_t>(-32));
}

int16_t* band_features(const FeatureConfig& c, const AxisSums& s, const int32_t* spectrum,
                       int16_t* out) {
  // Energy = |Y|^2 * points^2 / N^3 / 4^(shift - 1), Y the spectrum as computed.
  const int32_t scale_q16 = 2 * log2_q16(c.fft_points) - 3 * log2_q16(c.window) -
                            2 * kOneQ16 * (s.shift - 1) - c.reference_q10 * 64;
  const uint8_t* table = c.band_table;
  for (uint32_t b = 0; b < c.bands; ++b, table += kBandBytes) {
    enter(Stage::bands);
    const Band band = load_band(table);
    const int32_t dropped_q16 = band.half_width == 0 ? 0 : kEnergyDrop * kOneQ16;
    const int32_t band_q16 = scale_q16 + dropped_q16 - band.log2_weights_q10 * 64;
    const uint64_t sum = band_energy(band, spectrum, c.fft_points / 2u);
    enter(Stage::log);
    *out++ = to_q10(log2_above_floor_q16(sum, band_q16, c.floor_q10 * 64));
  }
  return out;
}

// One value for each bit of `statistics`, in the order of the bits.
void statistic_features(const FeatureConfig& c, const AxisSums& s, int16_t* out) {
  const int32_t log_n_q16 = log2_q16(c.window), floor_q16 = c.floor_q10 * 64,
                ref_q16 = c.reference_q10 * 64;
  const uint64_t peak = static_cast<uint64_t>(s.peak);
  const int32_t rms = log2_above_floor_q16(s.square, -3 * log_n_q16 - ref_q16, floor_q16);
  const int32_t top = log2_above_floor_q16(peak * peak, -2 * log_n_q16 - ref_q16, floor_q16);
  // Fourth moment over reference^2: sum / N^5, with the shift of add_moments undone.
  const int32_t moved = 11 + 4 * (30 - kMomentBits - s.shift);
  const int32_t m4 =
      log2_above_floor_q16(s.fourth, moved * kOneQ16 - 5 * log_n_q16 - 2 * ref_q16, 2 * floor_q16);
  if (c.statistics & kRms) *out++ = to_q10(rms);
  if (c.statistics & kPeak) *out++ = to_q10(top);
  if (c.statistics & kCrest) *out++ = to_q10(top - rms);
  if (c.statistics & kKurtosis) *out++ = to_q10(m4 - 2 * rms);
}

}  // namespace

uint32_t feature_scratch_bytes(const FeatureConfig& config) { return config.fft_points * 4u; }

void features_compute(const FeatureConfig& config, const int16_t* ring, uint32_t first,
                      const AxisRange* ranges, void* scratch, int16_t* out_q10) {
  int32_t* const spectrum = static_cast<int32_t*>(scratch);
  for (uint32_t axis = 0; axis < config.axes; ++axis) {
    const int16_t* const samples = ring + axis;
    enter(Stage::mean_and_hann);
    AxisSums sums = sums_of(config, ranges[axis]);
    fill(config, samples, first, sums, spectrum);
    enter(Stage::fft);
    fft_real(spectrum, config.fft_points, config.sine_q31);
    int16_t* const statistics = band_features(config, sums, spectrum, out_q10);
    if (config.statistics != 0) {
      enter(Stage::statistics);
      add_moments(config, samples, sums);
      statistic_features(config, sums, statistics);
    }
    out_q10 += config.features_per_axis;
  }
}

}  // namespace kilotune
