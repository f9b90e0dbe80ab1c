// What the base model's machine looked like, and how a new machine is calibrated against it: means
// of the machine's own windows, variances shrunk towards the base's by pseudo-windows,
//   (n * variance + k * base variance * level) / (n + k),
// level the machine's mean variance over the base's. Image section 1.7 of docs/SPEC.md.
#ifndef KILOTUNE_RUNTIME_LEARN_PROFILE_H_
#define KILOTUNE_RUNTIME_LEARN_PROFILE_H_

#include <cstdint>

#include "kernel/model.h"
#include "runtime/learn/adapter_view.h"
#include "runtime/learn/reservoir.h"
#include "runtime/signal/features.h"

namespace kilotune {

constexpr uint32_t kMaxNeighbours = 4;  // of the nearest-windows score

// How a device learns when no host tells it.
struct AloneConfig {
  uint16_t windows = 0;  // healthy ones to learn from; 0: it waits for a host
  uint16_t passes = 0;
  Real rate;
};

class Profile {
 public:
  // Read from the image each time: they are asked for seldom.
  [[nodiscard]] static AloneConfig alone(const Model& model);
  [[nodiscard]] static LifeConfig life(const Model& model);

  // Validates the section and the model's fit to it: bad_image otherwise.
  [[nodiscard]] Status open(const Model& model, const FeatureConfig& features);

  // The adapter of a device that has learned nothing: the base model's own calibration.
  void reset(AdapterView& view) const;
  // True when `view` holds an adapter whose every field is in range; foreign bytes may not be.
  [[nodiscard]] bool accepts(const AdapterView& view) const;

  // Calibrates features from the learned share of raw entries, then turns all entries into inputs.
  // Needs at least one learned window.
  void calibrate(AdapterView& view, const Reservoir& reservoir) const;
  // Residual mean and scale from sums over the `n` learned windows, in residual units:
  // sum (outputs,) and sum of squares (outputs,) as exact integers.
  void calibrate_residuals(AdapterView& view, const int32_t* sum, const uint64_t* squares,
                           uint32_t n) const;
  // (features,) Q10 to model input, or to an entry in steps of `coarse` of its steps.
  void normalise(const AdapterView& view, const int16_t* features_q10, int8_t* input,
                 uint32_t coarse = 1) const;

  uint16_t capacity = 0;              // windows in the reservoir
  uint16_t outputs = 0;               // residuals; 0 for a classifier
  uint8_t neighbours = 0;             // of the nearest-windows score
  uint8_t near_pseudo = 0;            // pseudo-windows of the shrinkage of its weights
  uint8_t threshold_pseudo = 0;       // pseudo-windows of the threshold's spread
  uint8_t early = 0;                  // early windows kept, 0: none
  uint16_t threshold_spread_q10 = 0;  // prior spread of log2 scores
  uint16_t quantile_q10 = 0, quantile_tail_q10 = 0;  // Student t: quantile + tail / freedom
  uint16_t margin_permille = 0;                      // by which a scorer must beat the combined one
  int16_t base_threshold_q10 = 0;                    // of the uncalibrated base model
  uint16_t classes = 0;                              // of a classifier, else 0
  int32_t sigma_lsb = 0;                             // model input steps in one sigma, rounded
  int32_t zero_point = 0;                            // of the model input

 private:
  [[nodiscard]] int8_t quantise(int32_t value_q10, int32_t mean_q10, uint32_t scale_q12) const;
  [[nodiscard]] int32_t value_of(const AdapterView& view, const Reservoir& reservoir, uint32_t slot,
                                 uint32_t feature) const;
  [[nodiscard]] const uint8_t* at(uint32_t off) const { return image_ + off; }

  const uint8_t* image_ = nullptr;
  const uint8_t* mean_ = nullptr;            // i16 Q10 (features,)
  const uint8_t* scale_ = nullptr;           // u16 Q12 (features,)
  const uint8_t* residual_scale_ = nullptr;  // u16 (outputs,)
  uint16_t features_ = 0;
  uint8_t mean_pseudo_ = 0, scale_pseudo_ = 0, residual_pseudo_ = 0;  // pseudo-windows
  bool level_ = false;         // scale the base's variances to the machine's level first
  int32_t inverse_input_ = 0;  // 2^7 / input scale
};

// floor(sqrt(v)).
uint32_t square_root(uint64_t v);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LEARN_PROFILE_H_
