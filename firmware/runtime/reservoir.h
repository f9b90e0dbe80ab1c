// Healthy windows kept for training, as int8 feature vectors sampled without bias from the stream.
//
// Until the calibration is known, an entry is the distance from an anchor (the first window) in
// units of a power of two that grows, feature by feature, when a window lies farther out.
// Calibrating turns every entry into the model input that it would have been.
#ifndef KILOTUNE_RUNTIME_RESERVOIR_H_
#define KILOTUNE_RUNTIME_RESERVOIR_H_

#include <cstdint>

#include "runtime/adapter_view.h"

namespace kilotune {

class Reservoir {
 public:
  // Empties the reservoir; capacity of the view is at least 1. Of every `hold_period` windows the
  // last `hold_count` go to the held-back share, whose slots are the last capacity * hold_count /
  // hold_period. hold_count < hold_period.
  void begin(AdapterView* view, uint8_t hold_period, uint8_t hold_count, uint32_t seed);
  // Goes on with the calibrated entries that are there.
  void resume(uint8_t hold_period, uint8_t hold_count, uint32_t seed);

  // Counts one more window and says in which slot to store it, -1: in none. Vitter's algorithm R:
  // each window of a share is kept with equal probability.
  [[nodiscard]] int32_t offer(uint8_t label);
  // Stores Q10 features (features,) in a slot that `offer` gave, before the calibration.
  void store_raw(uint32_t slot, const int16_t* features_q10);

  // Entry `slot` back in Q10 feature units, before calibration.
  [[nodiscard]] int32_t raw(uint32_t slot, uint32_t feature) const;

  [[nodiscard]] uint32_t learned() const { return learned_; }  // slots 0 .. learned-1
  [[nodiscard]] uint32_t held() const { return held_; }        // slots first_held() .. +held-1
  [[nodiscard]] uint32_t first_held() const { return learn_slots_; }
  [[nodiscard]] uint32_t offered() const { return count_; }

  // Takes over counts after a checkpoint was loaded.
  void restore(AdapterView* view, const CalibrationHead& head);
  // Writes the counts into the head.
  void save(CalibrationHead& head) const;
  // From now on entries are model inputs.
  void set_calibrated() { calibrated_ = true; }
  // Forgets a learned entry: the last one moves into its slot.
  void drop_learned(uint32_t slot);

 private:
  void widen(uint32_t feature, int32_t distance);

  AdapterView* view_ = nullptr;
  uint32_t count_ = 0;  // windows offered in this phase
  uint32_t learned_ = 0, held_ = 0;
  uint32_t learned_seen_ = 0, held_seen_ = 0;
  uint32_t learn_slots_ = 0, seed_ = 0;
  uint8_t hold_period_ = 1, hold_count_ = 0;
  bool calibrated_ = false;
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_RESERVOIR_H_
