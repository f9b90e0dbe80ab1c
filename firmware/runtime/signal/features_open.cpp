// Decoding of the feature section: everything is checked once, here.
#include "kernel/bytes.h"
#include "kernel/fixed_log.h"
#include "runtime/signal/band.h"
#include "runtime/signal/features.h"
#include "runtime/signal/wide.h"

namespace kilotune {
namespace {

constexpr uint32_t kSectionBytes = 32;
constexpr int32_t kOneQ16 = 65536;

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
    const int32_t a = sines[k], b = sines[quarter - k];
    if (a < 0 || b < 0) return false;
    const auto sum = static_cast<int64_t>(wide_square(a) + wide_square(b));  // below 2^63
    const int64_t error = sum - (int64_t{1} << 62);
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

}  // namespace kilotune
