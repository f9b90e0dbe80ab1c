// Feature section decoding, then per axis: mean, Hann window, FFT, band energies, statistics.
//
// Exact mean removal: with N samples, v = N * sample - sum is N times the deviation from the mean.
// |deviation| < 2^16 and N <= 2^11, so |v| < 2^27. The largest |v| is shifted up below 2^30: quiet
// and loud signals use the same bits of the FFT, and the shift comes off again in the logarithm.
#include "runtime/signal/features.h"

#include "kernel/bytes.h"
#include "kernel/fixed_log.h"
#include "runtime/signal/fft.h"
#include "runtime/signal/stages.h"

namespace kilotune {
namespace {

constexpr uint32_t kSectionBytes = 32;
constexpr uint32_t kBandBytes = 12;
constexpr int kEnergyDrop = 12;  // bits of a bin's energy that make room for its weight
constexpr int32_t kOneQ16 = 65536;
constexpr int kMomentBits = 15;  // a deviation is rounded to this many bits for its fourth power

// What one pass over an axis finds, and what a second one sums up.
struct AxisSums {
  int32_t sum = 0;    // of the samples
  int32_t peak = 0;   // largest |v|, below 2^27
  int32_t shift = 0;  // peak << shift lies in [2^29, 2^30): 3 to 29
  // Sum of v^2: at most N^3 * 2^30 < 2^63, as half the spread of 16-bit samples is below 2^15.
  uint64_t square = 0;
  // Sum of (v << shift >> 15)^4 >> 11: each term at most 2^49, N of them 2^60.
  uint64_t fourth = 0;
};

struct Band {
  uint32_t first, end;  // bins, end exclusive
  int32_t centre;       // in 1/32 bin
  int32_t half_width;   // in 1/32 bin, 0 = flat
  int32_t log2_weights_q10;

  // Below 2^16. A flat band's weight of 1 is 2^kEnergyDrop here, which undoes the drop.
  [[nodiscard]] int32_t weight(uint32_t bin) const {
    if (half_width == 0) return 1 << kEnergyDrop;
    const int32_t distance = static_cast<int32_t>(32 * bin) - centre;
    return half_width - (distance < 0 ? -distance : distance);
  }
};

Band load_band(const uint8_t* p) {
  return {load_u16(p), load_u16(p + 2), load_u16(p + 4), load_u16(p + 6), load_i16(p + 8)};
}

bool band_valid(const Band& band, uint32_t fft_points) {
  if (band.first >= band.end || band.end > fft_points / 2 + 1) return false;
  uint64_t sum = 0;
  for (uint32_t k = band.first; k < band.end; ++k) {
    const int32_t weight = band.weight(k);
    if (weight <= 0) return false;
    sum += static_cast<uint32_t>(weight);
  }
  const int32_t unit_q16 = band.half_width == 0 ? kEnergyDrop * kOneQ16 : 0;
  const int32_t error_q16 = band.log2_weights_q10 * 64 - (log2_q16(sum) - unit_q16);
  return error_q16 >= -64 && error_q16 <= 64;
}

bool bands_valid(const uint8_t* table, uint32_t bands, uint32_t fft_points) {
  for (uint32_t i = 0; i < bands; ++i, table += kBandBytes) {
    if (!band_valid(load_band(table), fft_points) || load_u16(table + 10) != 0) return false;
  }
  return true;
}

// All that the FFT's range proof needs: sines from 0 up, with sin^2 + cos^2 = 1 up to rounding.
bool tables_valid(const int32_t* sines, uint32_t quarter, const int32_t* hanns,
                  uint32_t hann_count) {
  for (uint32_t k = 0; k <= quarter; ++k) {
    const int64_t a = sines[k], b = sines[quarter - k];
    if (a < 0 || b < 0) return false;
    const int64_t error = a * a + b * b - (int64_t{1} << 62);
    if (error < -(int64_t{1} << 33) || error > (int64_t{1} << 33)) return false;
  }
  for (uint32_t i = 0; i < hann_count; ++i) {
    if (hanns[i] < 0) return false;
  }
  return true;
}

uint32_t count_bits(uint32_t bits) {
  uint32_t n = 0;
  for (; bits != 0; bits &= bits - 1) ++n;
  return n;
}

bool sizes_valid(const FeatureConfig& c) {
  const bool power_of_two = (c.fft_points & (c.fft_points - 1)) == 0;
  return c.window >= 16 && c.window <= 2048 && c.hop >= 1 && c.hop <= c.window && power_of_two &&
         c.fft_points >= 64 && c.fft_points <= 2048 && c.fft_points >= c.window && c.axes >= 1 &&
         c.axes <= kMaxAxes && c.statistics <= 15 && c.rate_mhz != 0 && c.full_scale_ug != 0 &&
         c.bands <= c.fft_points / 2 + 1 && c.features_per_axis != 0 &&
         c.features_per_axis == c.bands + count_bits(c.statistics);
}

AxisSums measure(const FeatureConfig& c, const int16_t* samples) {
  AxisSums s;
  int32_t low = samples[0], high = samples[0];
  for (uint32_t i = 0; i < c.window; ++i, samples += c.axes) {
    const int32_t x = *samples;
    s.sum += x;  // at most 2^26
    if (x < low) low = x;
    if (x > high) high = x;
  }
  const int32_t n = c.window;
  const int32_t above = high * n - s.sum, below = s.sum - low * n;
  s.peak = above > below ? above : below;
  s.shift = s.peak == 0 ? 0 : __builtin_clz(static_cast<uint32_t>(s.peak)) - 2;
  return s;
}

// Periodic Hann window for i = 0 to window / 2, Q31.
inline int32_t hann(const FeatureConfig& c, uint32_t i) {
  if (c.hann_q31 != nullptr) return c.hann_q31[i];
  return 0x3FFFFFFF - (turn(c.sine_q31, c.fft_points / 4u, i).cosine >> 1);
}

// Half the windowed deviations, shifted up: below 2^29, into `out` (fft_points,), zeros behind.
void fill(const FeatureConfig& c, const int16_t* axis, uint32_t first, const AxisSums& s,
          int32_t* out) {
  const int16_t* x = axis + first * c.axes;
  const int16_t* const end = axis + c.window * c.axes;
  const int32_t n = c.window, gain = 1 << s.shift;
  for (uint32_t i = 0; i < c.window; ++i) {
    const int64_t v = (*x * n - s.sum) * gain;
    const uint32_t from_edge = 2 * i <= c.window ? i : c.window - i;
    out[i] = static_cast<int32_t>((v * hann(c, from_edge)) >> 32);
    x += c.axes;
    if (x >= end) x = axis;
  }
  for (uint32_t i = c.window; i < c.fft_points; ++i) out[i] = 0;
}

void add_moments(const FeatureConfig& c, const int16_t* samples, AxisSums& s) {
  const int32_t n = c.window, gain = 1 << s.shift;
  constexpr int kDrop = 30 - kMomentBits;
  for (uint32_t i = 0; i < c.window; ++i, samples += c.axes) {
    const int32_t v = *samples * n - s.sum;
    s.square += static_cast<uint64_t>(static_cast<int64_t>(v) * v);
    const int32_t q = (v * gain + (1 << (kDrop - 1))) >> kDrop;  // |q| <= 2^15
    const uint64_t q2 = static_cast<uint32_t>(q * q);            // at most 2^30
    s.fourth += (q2 * q2) >> 11;
  }
}

int16_t to_q10(int32_t q16) {
  const int32_t q10 = (q16 + 32) >> 6;
  if (q10 > INT16_MAX) return INT16_MAX;
  if (q10 < INT16_MIN) return INT16_MIN;
  return static_cast<int16_t>(q10);
}

// |X(k) / points|^2. By Parseval's theorem those of all bins add up to less than 2^58.
inline uint64_t bin_energy(const int32_t* spectrum, uint32_t k, uint32_t nyquist) {
  const auto square = [](int32_t a) { return static_cast<uint64_t>(static_cast<int64_t>(a) * a); };
  if (k == 0) return square(spectrum[0]);
  if (k == nyquist) return square(spectrum[1]);
  return square(spectrum[2 * k]) + square(spectrum[2 * k + 1]);
}

// Weighted sum of energies, over 2^kEnergyDrop: below 2^(58 - 12 + 16) = 2^62.
uint64_t band_energy(const Band& band, const int32_t* spectrum, uint32_t nyquist) {
  uint64_t sum = 0;
  for (uint32_t k = band.first; k < band.end; ++k) {
    const uint64_t energy = bin_energy(spectrum, k, nyquist) >> kEnergyDrop;
    sum += energy * static_cast<uint32_t>(band.weight(k));
  }
  return sum;
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

Status features_open(const uint8_t* image, uint32_t image_bytes, uint32_t section_off,
                     FeatureConfig& out) {
  const Bytes bytes{image, image_bytes};
  if (section_off == 0) return Status::no_features;
  if (!bytes.holds(section_off, 1, kSectionBytes)) return Status::bad_image;
  const uint8_t* p = image + section_off;
  FeatureConfig c;
  c.window = load_u16(p);
  c.hop = load_u16(p + 2);
  c.fft_points = load_u16(p + 4);
  c.axes = p[6];
  c.statistics = p[7];
  c.rate_mhz = load_u32(p + 8);
  c.full_scale_ug = load_u32(p + 12);
  c.bands = load_u16(p + 16);
  c.features_per_axis = load_u16(p + 18);
  c.reference_q10 = load_i16(p + 28);
  c.floor_q10 = load_i16(p + 30);
  if (!sizes_valid(c)) return Status::bad_image;
  c.features_total = static_cast<uint16_t>(c.axes * c.features_per_axis);

  const uint32_t bands_off = load_u32(p + 20), tables_off = load_u32(p + 24);
  const uint32_t sines = c.fft_points / 4u + 1;
  const uint32_t hanns = c.window == c.fft_points ? 0 : c.window / 2u + 1;
  if (!bytes.holds(bands_off, c.bands, kBandBytes) || !bytes.holds(tables_off, sines + hanns, 4)) {
    return Status::bad_image;
  }
  c.band_table = image + bands_off;
  if (!bands_valid(c.band_table, c.bands, c.fft_points)) return Status::bad_image;
  // Arrays of plain integers at checked offsets and alignment, read only: executed in place.
  const int32_t* const tables = reinterpret_cast<const int32_t*>(aligned4(image + tables_off));
  if (!tables_valid(tables, sines - 1, tables + sines, hanns)) return Status::bad_image;
  c.sine_q31 = tables;
  c.hann_q31 = hanns == 0 ? nullptr : tables + sines;
  out = c;
  return Status::ok;
}

uint32_t feature_scratch_bytes(const FeatureConfig& config) { return config.fft_points * 4u; }

void features_compute(const FeatureConfig& config, const int16_t* ring, uint32_t first,
                      void* scratch, int16_t* out_q10) {
  int32_t* const spectrum = static_cast<int32_t*>(scratch);
  for (uint32_t axis = 0; axis < config.axes; ++axis) {
    const int16_t* const samples = ring + axis;
    enter(Stage::mean_and_hann);
    AxisSums sums = measure(config, samples);
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
