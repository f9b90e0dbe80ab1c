// Spectral and statistical features of one window of samples, in integers: the same bits on every
// core. Band energies, RMS, peak, crest factor and kurtosis, all as log2 in Q10; formulas and
// tables: docs/SPEC.md, 1.6.
#ifndef KILOTUNE_RUNTIME_SIGNAL_FEATURES_H_
#define KILOTUNE_RUNTIME_SIGNAL_FEATURES_H_

#include <cstdint>

#include "kernel/status.h"
#include "runtime/signal/window.h"

namespace kilotune {

enum Statistic : uint8_t { kRms = 1, kPeak = 2, kCrest = 4, kKurtosis = 8 };

// The feature section of a model image (SPEC 1.6), validated. Pointers lead into the image.
struct FeatureConfig {
  uint16_t window = 0;                  // samples, 16 to 2048
  uint16_t hop = 0;                     // samples, 1 to window
  uint16_t fft_points = 0;              // a power of two, 64 to 2048, at least the window
  uint16_t bands = 0;                   // per axis
  uint16_t features_per_axis = 0;       // bands, then statistics
  uint16_t features_total = 0;          // axes * features_per_axis: the model's input
  uint8_t axes = 0;                     // 1 to kMaxAxes
  uint8_t statistics = 0;               // Statistic bits
  uint32_t rate_mhz = 0;                // sampling rate in millihertz
  uint32_t full_scale_ug = 0;           // micro-g at 32768 counts
  int16_t reference_q10 = 0;            // log2 counts^2
  int16_t floor_q10 = 0;                // log2 relative to the reference
  const uint8_t* band_table = nullptr;  // 12 bytes per band
  const int32_t* sine_q31 = nullptr;    // (fft_points / 4 + 1,)
  // (window / 2 + 1,), or null if window = fft_points: then it is taken from the sines
  const int32_t* hann_q31 = nullptr;
};

// Validates every field and table of the section; `image` is 4-aligned. no_features: section_off is
// 0; bad_image: anything out of range. `out` is untouched on error.
[[nodiscard]] Status features_open(const uint8_t* image, uint32_t image_bytes, uint32_t section_off,
                                   FeatureConfig& out);

// Work area of features_compute, 4-aligned: one axis at a time, 4 bytes per point.
[[nodiscard]] uint32_t feature_scratch_bytes(const FeatureConfig& config);

// `ring`: (window, axes) interleaved, starting at frame `first` and wrapping around.
// `ranges`: (axes,), of the same samples. `out_q10`: (features_total,), one axis after the other.
void features_compute(const FeatureConfig& config, const int16_t* ring, uint32_t first,
                      const AxisRange* ranges, void* scratch, int16_t* out_q10);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_SIGNAL_FEATURES_H_
