// Where calibration and reservoir lie inside the adapter: docs/SPEC.md, section 2.
#ifndef KILOTUNE_RUNTIME_LEARN_ADAPTER_VIEW_H_
#define KILOTUNE_RUNTIME_LEARN_ADAPTER_VIEW_H_

#include <cstdint>

#include "kernel/bytes.h"
#include "kernel/status.h"
#include "runtime/learn/life.h"

namespace kilotune {

constexpr uint32_t kAdapterHeadBytes = 32;

// The fixed head of the calibration block, as plain numbers.
struct CalibrationHead {
  uint8_t calibrated = 0;     // 1 once a learn phase has ended
  uint8_t candidate = 0;      // 1 where trained parameters replaced the base model's
  uint8_t scorer = 0;         // Scorer in use
  uint8_t held = 0;           // windows in the held-back share
  uint16_t learned = 0;       // windows in the share learned from
  int16_t threshold = 0;      // Q10 log2, of the scorer in use
  uint32_t learned_seen = 0;  // windows that were candidates for each share
  uint32_t held_seen = 0;
  int16_t residual_level = 0;  // Q10 log2, mean score of held-back windows, for the combined scorer
  int16_t nearest_level = 0;
  uint16_t learn_slots = 0;  // slots of the share learned from; the held-back share follows
  // What the first learn phase found of its own healthy windows; later ones never change it.
  uint8_t early = 0;            // early windows that are kept
  uint8_t origin = 0;           // 1 where the limits below were measured
  int16_t origin_limit = 0;     // Q10 log2, distance from the first calibration
  int16_t early_limit = 0;      // Q10 log2, distance to the nearest early windows
  int16_t early_margin = 0;     // Q10 log2, threshold less the mean score of the early windows
  uint16_t early_permille = 0;  // of pseudo-faults made of them that lie above the threshold
};

// Typed access to the calibration block of an adapter in RAM. `base` is 4-aligned.
class AdapterView {
 public:
  AdapterView() = default;
  AdapterView(uint8_t* base, uint16_t features, uint16_t outputs, uint16_t capacity, uint8_t early,
              bool lives = false)
      : base_(base),
        features_(features),
        outputs_(outputs),
        capacity_(capacity),
        early_(early),
        lives_(lives) {}

  // Bytes of the block, a multiple of 4: the trained parameters follow.
  [[nodiscard]] static uint32_t bytes(uint32_t features, uint32_t outputs, uint32_t capacity,
                                      uint32_t early, bool lives = false) {
    const uint32_t kept = early == 0 ? 0 : (early + 1) * features;
    const uint32_t learned =
        (kAdapterHeadBytes + 6 * features + 4 * outputs + capacity * (1 + features) + kept + 3) &
        ~3u;
    return learned + (lives ? kLifeHeadBytes + 4 * features : 0);
  }

  [[nodiscard]] CalibrationHead head() const;
  void set_head(const CalibrationHead& head);

  // Feature mean, Q10 log2, and scale, Q12 log2 units a sigma; (features,) each.
  // While collecting: the anchor, and the log2 of a stored unit in Q10 units.
  [[nodiscard]] int16_t* feature_mean() const { return i16(kAdapterHeadBytes); }
  [[nodiscard]] uint16_t* feature_scale() const {
    return reinterpret_cast<uint16_t*>(feature_mean() + features_);
  }
  // Residual mean and scale in units of 2^-8 of the loss's d; (outputs,) each.
  [[nodiscard]] int16_t* residual_mean() const { return feature_mean() + 2 * features_; }
  [[nodiscard]] uint16_t* residual_scale() const {
    return reinterpret_cast<uint16_t*>(residual_mean() + outputs_);
  }
  // Weight of each feature in the distance to stored windows, relative to the largest; (features,).
  [[nodiscard]] uint16_t* near_weight() const { return residual_scale() + outputs_; }
  [[nodiscard]] uint8_t* labels() const {
    return base_ + kAdapterHeadBytes + 6 * features_ + 4 * outputs_;
  }
  // (capacity + early, features): model inputs once calibrated; behind the reservoir's slots come
  // the early windows'.
  [[nodiscard]] int8_t* entry(uint32_t slot) const {
    return reinterpret_cast<int8_t*>(labels() + capacity_ + slot * features_);
  }

  // How far slow re-calibration has moved each feature's mean, in model input steps; (features,).
  // Only where there is room for early windows.
  [[nodiscard]] int8_t* aged() const { return entry(uint32_t{capacity_} + early_); }

  // Of an adapter that lives on: its state, and the calibration that stays, (features,) each as
  // feature_mean() and feature_scale().
  [[nodiscard]] bool lives() const { return kHasLife && lives_; }
  [[nodiscard]] uint8_t* life() const {
    return base_ + bytes(features_, outputs_, capacity_, early_);
  }
  [[nodiscard]] int16_t* anchor_mean() const {
    return reinterpret_cast<int16_t*>(life() + kLifeHeadBytes);
  }
  [[nodiscard]] uint16_t* anchor_scale() const {
    return reinterpret_cast<uint16_t*>(anchor_mean() + features_);
  }

  [[nodiscard]] uint16_t features() const { return features_; }
  [[nodiscard]] uint16_t outputs() const { return outputs_; }
  [[nodiscard]] uint16_t capacity() const { return capacity_; }
  [[nodiscard]] uint8_t early_capacity() const { return early_; }

 private:
  [[nodiscard]] int16_t* i16(uint32_t off) const { return reinterpret_cast<int16_t*>(base_ + off); }

  uint8_t* base_ = nullptr;
  uint16_t features_ = 0, outputs_ = 0, capacity_ = 0;
  uint8_t early_ = 0;
  bool lives_ = false;
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LEARN_ADAPTER_VIEW_H_
