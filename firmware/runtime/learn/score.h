// How unlike its own machine a window is: residuals of the network, distance to stored windows,
// both.
#ifndef KILOTUNE_RUNTIME_LEARN_SCORE_H_
#define KILOTUNE_RUNTIME_LEARN_SCORE_H_

#include <cstdint>

#include "kernel/trainer.h"
#include "runtime/learn/adapter_view.h"
#include "runtime/learn/profile.h"
#include "runtime/learn/reservoir.h"
#include "schema/terms.h"

namespace kilotune {

struct Score {
  int16_t value;     // Q10 log2; classifiers: of the winning class's probability
  uint8_t category;  // classifiers: the winning class
  bool anomalous;    // above the threshold; never for classifiers
};

// Residual of output o, in units of 2^-8 of the loss's d; below 2^15.
inline int32_t residual_of(const SquaredError& differences, uint32_t o) {
  return differences.difference(o) >> 8;
}

// Scores what lies in the trainer's input. Holds no state of its own.
class Scoring {
 public:
  Scoring() = default;
  Scoring(const Model* model, Trainer* trainer, const Profile* profile, const AdapterView* view)
      : model_(model), trainer_(trainer), profile_(profile), view_(view) {}

  // By the scorer and threshold in `head`. `old_only`: stored windows labelled kFresh do not count.
  [[nodiscard]] Score score(const CalibrationHead& head, bool old_only = false) const;
  // Mean over outputs of ((residual - mean) / scale)^2, Q10 log2. Runs forward.
  [[nodiscard]] int32_t residual() const;
  // Mean weighted squared distance of `x` to the nearest of the `learned` stored windows, Q10 log2;
  // relative to an arbitrary unit, constant between two calibrations. learned >= 1. Of the windows
  // that later phases have stored, only the nearest one counts, and no nearer than by half the
  // squared distance of the nearest first one: what a fault can gain by it is less than one bit.
  [[nodiscard]] int32_t nearest(const int8_t* x, uint32_t learned, bool old_only = false) const;
  // Mean of the two, each levelled by its mean on the held-back windows.
  [[nodiscard]] static int32_t combine(int32_t residual, int32_t nearest,
                                       const CalibrationHead& head) {
    return (residual - head.residual_level + nearest - head.nearest_level) >> 1;
  }
  // Differences (outputs,) of what lies in the input, for residual_of(); runs forward, and holds
  // until the next pass.
  [[nodiscard]] SquaredError differences() const;

 private:
  [[nodiscard]] Score classify() const;

  const Model* model_ = nullptr;
  Trainer* trainer_ = nullptr;
  const Profile* profile_ = nullptr;
  const AdapterView* view_ = nullptr;
};

// Threshold from the log2 scores (n,) of held-back windows, all Q10: where one more healthy window
// would lie by Student's t, mean + t * s * sqrt(1 + 1/n). With k pseudo-windows of the profile's
// spread: s^2 = (sum of (score - mean)^2 + k spread^2) / f, f = n - 1 + k, t = quantile + tail / f.
// 1 <= n <= 255.
int32_t threshold_q10(const Profile& profile, const int16_t* scores, uint32_t n);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LEARN_SCORE_H_
