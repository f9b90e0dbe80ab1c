// The samples of one axis on their way into the FFT: without their mean, weighted by a Hann window.
//
// Exact mean removal: with N samples, v = N * sample - sum is N times the deviation from the mean.
// |deviation| < 2^16 and N <= 2^11, so |v| < 2^27. The largest |v| is shifted up below 2^30: quiet
// and loud signals use the same bits of the FFT, and the shift comes off again in the logarithm.
#ifndef KILOTUNE_RUNTIME_SIGNAL_DEVIATIONS_H_
#define KILOTUNE_RUNTIME_SIGNAL_DEVIATIONS_H_

#include <cstdint>

#include "runtime/signal/features.h"

namespace kilotune {

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

// Half the windowed deviations, shifted up: below 2^29, into `out` (fft_points,) at their
// fft_place, zeros behind the window. `axis`: the ring's samples from the axis's first on; `first`:
// its oldest frame.
void fill(const FeatureConfig& c, const int16_t* axis, uint32_t first, const AxisSums& s,
          int32_t* out);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_SIGNAL_DEVIATIONS_H_
