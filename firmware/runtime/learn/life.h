// What a device does about time. A machine lives for years, and the first minute of it is not what
// it is like: the device learns on, in phases that get rarer as it gets older, and measures how far
// the machine drifts in between.
//
// Time is counted in records: windows that came together. A record ends where a stream begins, at a
// gap, and after the image's number of windows. Nothing here has a clock or memory of its own, and
// windows are the engine's.
#ifndef KILOTUNE_RUNTIME_LEARN_LIFE_H_
#define KILOTUNE_RUNTIME_LEARN_LIFE_H_

#include <cstdint>

#include "kernel/bytes.h"
#include "kernel/status.h"
#include "schema/terms.h"

namespace kilotune {

// A firmware for a board with little program memory is built without (board.json): it learns once.
#ifndef KILOTUNE_LIFE
#define KILOTUNE_LIFE 1
#endif
constexpr bool kHasLife = KILOTUNE_LIFE != 0;

constexpr uint32_t kLifeHeadBytes = 60;
// Of a record, so many windows are judged and learned from, evenly spaced.
constexpr uint32_t kJudged = 4;
// Every so many records one is held back from training, whole: windows of one record overlap.
constexpr uint32_t kHoldRecords = 4;
constexpr uint32_t kDrifts = 3;
constexpr uint32_t kToldBands = 3;
// Q10 log2. Above that drift of a phase's records the machine has not settled.
constexpr int32_t kSettled_q10 = 1024;
// An operator who says that an alarm is normal accepts what was seen, and so much more.
constexpr int32_t kAccepted_q10 = 1024;

// By the image (docs/SPEC.md, section 1.7). `of` 0: the device learns once.
struct LifeConfig {
  uint8_t alarmed = 0, of = 0;  // alarmed records, of so many in a row, that make an alarm
  uint8_t record = 0;           // windows of a record, at most
  uint8_t first = 0;            // records of the first phase
  uint8_t anchor = 0;           // 1/16 log2: farther from the anchor, it is an alarm
};

// Kept in the adapter (docs/SPEC.md, section 2). Ages are in records since the life began.
struct LifeState {
  uint32_t age = 0;
  uint32_t due = 0;             // age at which the next phase begins
  uint32_t settled = 0;         // age at which watching began, 0: not yet
  uint32_t alarm = 0;           // age at which the present alarm began, 0: there is none
  uint32_t seed = 0;            // of sampling and training
  int16_t drift[kDrifts] = {};  // of the last phases, the last one first, Q10 log2
  int16_t allowance = 0;        // by which the threshold was raised for it
  int16_t anchor_level = 0;     // Q10 log2, mean distance of the anchor's own held-back windows
  uint16_t phases = 0;
  uint8_t drifts = 0;    // that are known, at most kDrifts
  uint8_t recent = 0;    // bit i: the record i before the last one was alarmed
  uint8_t on = 0;        // 1: this adapter lives on
  uint8_t anchored = 0;  // 1: there is an anchor
  uint8_t causes = 0;    // of the present alarm, AlarmCause bits
  // By command; 0: as the image says.
  uint8_t alarmed = 0, of = 0;
  // How often an operator has said so (255: or more), and the age at the last time.
  uint8_t normals = 0, faults = 0;
  uint32_t told = 0;
  uint32_t accepting = 0;  // age until which an alarm's records are taken for normal, 0: none are
  // Of the last alarmed record: what `judge` was told, and the features that were farthest from
  // what was learned, the farthest first: number + 1, negative where it was smaller, 0: not known.
  int16_t alarm_score = 0, alarm_distance = 0;
  int16_t bands[kToldBands] = {};
};

class Life {
 public:
  void open(const LifeConfig& config);
  void load(const uint8_t* head);
  void save(uint8_t* head) const;
  // False for a state that no device leaves.
  [[nodiscard]] static bool accepts(const uint8_t* head);
  [[nodiscard]] static bool has_anchor(const uint8_t* head) { return head[35] != 0; }

  void begin(uint32_t seed);  // a new life
  void stop() { state_.on = 0; }
  [[nodiscard]] const LifeState& state() const { return state_; }
  [[nodiscard]] bool on() const { return kHasLife && state_.on != 0; }
  [[nodiscard]] bool watches() const { return state_.settled != 0; }
  [[nodiscard]] int32_t anchor_limit_q10() const { return config_.anchor * 64; }
  // How many alarmed records, of how many in a row, make an alarm.
  [[nodiscard]] uint8_t alarmed() const {
    return state_.of != 0 ? state_.alarmed : config_.alarmed;
  }
  [[nodiscard]] uint8_t of() const { return state_.of != 0 ? state_.of : config_.of; }
  // False: no such rule.
  [[nodiscard]] bool set_rule(uint32_t alarmed, uint32_t of);

  // --- what an operator says of an alarm ---------------------------------------------------------
  // The machine is like this now: for as many records as a first phase has, what is not much worse
  // than the alarm is learned from, and then a phase takes the anchor anew. False: there is no
  // alarm or an answer to one is under way.
  [[nodiscard]] bool accept();
  // It was a fault: the alarm ends, and drift is not measured by its records.
  void reject();
  [[nodiscard]] bool accepting() const { return state_.age < state_.accepting; }

  // --- records ---------------------------------------------------------------------------------
  // One more window; true: it is judged and learned from.
  [[nodiscard]] bool next_window();
  // A judged window's score above the mean of held-back ones, and its distance from the anchor
  // above the anchor's own; Q10 log2.
  void judge(int32_t score_q10, int32_t anchor_q10);
  // The features of a window that is over a limit.
  void tell_bands(const int16_t bands[kToldBands]);
  // Of the last record that was judged in this run, as `judge` was told.
  [[nodiscard]] bool has_judged() const { return has_judged_; }
  [[nodiscard]] int16_t score() const { return score_; }
  [[nodiscard]] int16_t distance() const { return distance_; }
  [[nodiscard]] bool in_record() const { return windows_ != 0; }
  [[nodiscard]] bool full() const { return windows_ == config_.record; }
  [[nodiscard]] bool holds_back() const { return state_.age % kHoldRecords == kHoldRecords - 1; }
  // While the device learns at all: windows behind an alarmed record are not learned from.
  [[nodiscard]] bool learns() const { return (state_.recent & 1) == 0; }
  // Ends the record. True: it was alarmed, its median score being above `limit_q10`, and is not to
  // be learned from.
  bool end_record(int32_t limit_q10);
  // Ends a record of a first phase, in which nothing is judged.
  void end_first_record();

  // --- phases ----------------------------------------------------------------------------------
  [[nodiscard]] bool due() const { return on() && state_.phases != 0 && state_.age >= state_.due; }
  [[nodiscard]] bool wants_anchor() const { return watches() && state_.anchored == 0; }
  // Measures what the machine drifted since the last phase, and says when the next one is due.
  void begin_phase();
  // The phase that is due cannot begin: the next record is asked again.
  void postpone() { state_.due = state_.age + 1; }
  void set_anchor(int32_t level_q10);
  // Whether flash took what the last phase of this run has learned.
  void note_commit(Status status) { kept_ = status; }
  [[nodiscard]] Status kept() const { return kept_; }

 private:
  static constexpr uint32_t kSample = 24;

  [[nodiscard]] uint8_t causes_of_record(int32_t limit_q10) const;
  void end_alarm();
  void follow(int32_t score_q10);
  [[nodiscard]] int32_t drifted();

  LifeConfig config_;
  LifeState state_;
  uint8_t windows_ = 0, judged_ = 0;  // of the present record
  bool has_judged_ = false;
  Status kept_ = Status::ok;
  int16_t scores_[kJudged] = {}, distances_[kJudged] = {}, bands_[kToldBands] = {};
  int16_t score_ = 0, distance_ = 0;  // medians of the last record
  // Medians of records since the last phase above the held-back mean, an unbiased sample.
  int16_t sample_[kSample] = {};
  uint32_t followed_ = 0;
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LEARN_LIFE_H_
