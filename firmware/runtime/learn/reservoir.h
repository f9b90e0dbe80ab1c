// Healthy windows kept for training, as int8 feature vectors sampled without bias from the stream.
//
// Beside the shares learned from and held back, a few early windows: a sample of its own of what
// the first learn phase held back, which later phases neither train on nor replace.
//
// Until the calibration is known, an entry is the distance from an anchor (the first window) in
// units of a power of two that grows, feature by feature, when a window lies farther out.
// Calibrating turns every entry into the model input that it would have been.
#ifndef KILOTUNE_RUNTIME_LEARN_RESERVOIR_H_
#define KILOTUNE_RUNTIME_LEARN_RESERVOIR_H_

#include <cstdint>

#include "runtime/learn/adapter_view.h"

namespace kilotune {

// Labels of windows that cautious phases have stored: this one, and those before it. All others are
// the first phase's. Classifiers, whose labels are classes, have none of this.
constexpr uint8_t kFirst = 0, kFresh = 1, kLater = 2;
// Windows of a life that wait for the next phase: nothing is compared with them until then. Those
// of the present record may still be dropped.
constexpr uint8_t kWaiting = 8, kPending = 9;
// Their entries are in steps of so many model input steps, because the machine may have moved far.
constexpr uint8_t kCoarse = 4;

class Reservoir {
 public:
  // Empties the reservoir; capacity of the view is at least 1. Of every `hold_period` windows the
  // last `hold_count` go to the held-back share, whose slots are the last capacity * hold_count /
  // hold_period. hold_count < hold_period.
  void begin(AdapterView* view, uint8_t hold_period, uint8_t hold_count, uint32_t seed);
  // Goes on with the calibrated entries that are there. `cautious`: all such phases together fill
  // at most half of each share, and new windows are told from old ones.
  void resume(uint8_t hold_period, uint8_t hold_count, uint32_t seed, bool cautious);

  // Where a window is to be stored: in a slot of its share, as an early window, both or (-1) not.
  struct Places {
    int32_t slot, early;
  };
  // Counts one more window. Algorithm R (Vitter, ACM TOMS 11, 1985): each window of a share is kept
  // with equal probability. Early windows are taken in the first phase only.
  [[nodiscard]] Places offer(uint8_t label);
  // The same for a window of a record, which is held back as a whole.
  [[nodiscard]] Places offer_of_record(uint8_t label, bool hold);
  // Ends a record whose windows were offered as kPending: they are kept, or dropped.
  void end_record(bool keep);
  // New windows get in as if the reservoir had just been filled: after n of them at most n / (n +
  // slots) of a share is new.
  void make_room();
  // Forgets the windows that wait for the next phase.
  void drop_waiting();
  // A life goes on with the calibrated entries that are there.
  void live(uint32_t seed) { seed_ = seed; }
  // Stores Q10 features (features,) in a slot that `offer` gave, before the calibration.
  void store_raw(uint32_t slot, const int16_t* features_q10);

  // Entry `slot` back in Q10 feature units, before calibration.
  [[nodiscard]] int32_t raw(uint32_t slot, uint32_t feature) const;

  [[nodiscard]] uint32_t learned() const { return learned_; }  // slots 0 .. learned-1
  [[nodiscard]] uint32_t held() const { return held_; }        // slots first_held() .. +held-1
  [[nodiscard]] uint32_t first_held() const { return learn_slots_; }
  [[nodiscard]] uint32_t early() const { return early_; }  // slots first_early() .. +early-1
  [[nodiscard]] uint32_t first_early() const { return view_->capacity(); }
  [[nodiscard]] uint32_t offered() const { return count_; }

  // True while a phase collects that must not judge windows by those it has stored itself: they
  // are labelled kFresh.
  [[nodiscard]] bool cautious() const { return cautious_; }

  // Takes over counts after a checkpoint was loaded.
  void restore(AdapterView* view, const CalibrationHead& head);
  // Writes the counts into the head.
  void save(CalibrationHead& head) const;
  // From now on entries are model inputs.
  void set_calibrated();
  [[nodiscard]] bool calibrated() const { return calibrated_; }
  // Forgets an entry: the last one of its share moves into its slot.
  void drop_learned(uint32_t slot) { drop(slot, 0, learned_); }
  void drop_held(uint32_t slot) { drop(slot, learn_slots_, held_); }
  void drop_early(uint32_t slot);

 private:
  [[nodiscard]] bool may_store(uint32_t slot, bool hold, uint32_t slots);
  [[nodiscard]] bool may_wait(uint32_t slot, uint32_t first, uint32_t filled) const;
  [[nodiscard]] int32_t sample(uint32_t filled, uint32_t slots, uint32_t seen, uint32_t stream);
  void widen(uint32_t feature, int32_t distance);
  void drop(uint32_t slot, uint32_t first, uint32_t& filled);
  void end_record(bool keep, uint32_t first, uint32_t& filled);
  void drop_waiting(uint32_t first, uint32_t& filled, uint32_t& seen);

  AdapterView* view_ = nullptr;
  uint32_t count_ = 0;  // windows offered in this phase
  uint32_t learned_ = 0, held_ = 0;
  uint32_t learned_seen_ = 0, held_seen_ = 0;
  uint32_t early_ = 0, early_seen_ = 0;
  uint32_t learn_slots_ = 0, seed_ = 0;
  uint8_t hold_period_ = 1, hold_count_ = 0;
  bool calibrated_ = false, cautious_ = false;
  uint8_t later_learned_ = 0, later_held_ = 0;  // of a cautious phase
  uint8_t pending_ = 0;                         // windows of the present record that were offered
  bool pending_held_ = false;
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LEARN_RESERVOIR_H_
