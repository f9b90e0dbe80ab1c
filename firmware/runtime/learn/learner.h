// Learning from the reservoir: calibrate, train, keep what is better on held-back windows, pick a
// scorer, set the threshold. Runs in small steps between other work; the result depends on the
// reservoir, the configuration and the seed, never on when a step runs.
#ifndef KILOTUNE_RUNTIME_LEARN_LEARNER_H_
#define KILOTUNE_RUNTIME_LEARN_LEARNER_H_

#include <cstdint>

#include "kernel/pool.h"
#include "kernel/trainer.h"
#include "runtime/learn/guard.h"
#include "runtime/learn/neighbours.h"
#include "runtime/learn/profile.h"
#include "runtime/learn/reservoir.h"
#include "runtime/learn/score.h"

namespace kilotune {

struct LearnConfig {
  TrainConfig train;     // learning rate (falls linearly to 0), momentum, decay, accumulation, seed
  uint16_t passes = 40;  // over the reservoir's learned share; 0 = calibration only
  uint16_t patience = 0;    // stop after so many passes without a better held-back loss; 0 = never
  uint8_t hold_period = 8;  // of every `hold_period` windows ...
  uint8_t hold_count = 2;   // ... the last `hold_count` are held back from training
  uint8_t labelled = 0;     // 1: windows carry the label given with the stream (classifiers)
  uint8_t resume = 0;       // 1: go on from the last checkpoint, 0: start from the base model
  Scorer scorer = Scorer::automatic;
  uint8_t force = 0;  // 1: keep the trained candidate even where calibration is better
  // Seeded augmentation. Noise goes into the input only: the network learns to remove it.
  uint8_t noise = 8;   // standard deviation in 1/16 sigma, 0 = none
  uint8_t gain = 0;    // one gain of up to +-gain/16 log2 units a window and axis
  uint8_t jitter = 0;  // 1: bands move by up to one
  Guard guard = Guard::all;
  uint8_t lives = 0;        // 1: the device goes on learning, in phases of its own
  uint8_t recalibrate = 0;  // with resume, 1: follow a machine that ages, slowly and within limits
  Apart apart = Apart::report;  // what becomes of windows of a first phase that lie apart
};

// What learning came to. Losses and threshold in Q10 log2: of the mean over a share's windows, held
// back from training or learned from; before training (calibration) and after (candidate).
struct LearnReport {
  uint16_t learned, held;  // windows in the reservoir's two shares
  uint8_t dropped;  // windows that looked unlike all others once calibrated, and those left out
  uint8_t apart;    // windows that lay apart as a group; 0: none, or not looked for
  uint16_t passes_done, passes_kept;
  int16_t loss_calibration_held, loss_candidate_held;
  int16_t loss_calibration_learned, loss_candidate_learned;
  uint8_t kept_candidate;     // 1 where trained parameters are in use
  uint8_t candidate_allowed;  // 1 where they passed the comparison on held-back windows
  Scorer scorer;              // in use
  int16_t threshold;
  // Separation of held-back windows from pseudo-faults, in 1/1000 of AUC: what picked the scorer.
  uint16_t auc_calibration, auc_candidate, auc_nearest, auc_combined;
  GuardReport guard;
};

class Learner {
 public:
  struct Parts {
    const Model* model;
    Trainer* trainer;
    const Profile* profile;
    AdapterView* view;
    Reservoir* reservoir;
    const Scoring* scoring;
    const Trend* trend;  // of the windows of this phase
    const Offered* offered;
    uint8_t features_per_axis;
    const uint8_t* adapter;    // in RAM, that learning changes
    uint8_t* work;             // work_bytes, 8-aligned; nobody else's until step() returns false
    const uint8_t* committed;  // adapter in flash that training starts from, null: the base model
  };

  [[nodiscard]] static uint32_t work_bytes(const Profile& profile, uint32_t features);

  // too_few_windows: not even one window to learn from, or none held back though asked for.
  // `config` must stay until step() returns false.
  [[nodiscard]] Status begin(const Parts& parts, const LearnConfig& config);
  // One bounded piece (a window's score, or a training step); true while more remains.
  bool step();
  // The work area is somebody else's again.
  void end();

  [[nodiscard]] const LearnReport& report() const { return report_; }
  [[nodiscard]] uint32_t kept_steps() const {
    return kept_steps_;
  }  // that made the parameters in use

 private:
  enum class Stage : uint8_t {
    calibrate,
    isolation,
    apart,
    near_weights,
    residuals,
    losses,
    held_scores,
    fakes,
    train,
    validate,
    replay,
    finish,
    parts,
    early,
    done,
  };
  // Whose figures are measured: the start's (calibration), the trained candidate's, the winner's.
  enum class Round : uint8_t { start, candidate, final };

  static constexpr uint32_t kFakesPerWindow = 16;

  // What is being added up; in the work area, like all that only learning needs.
  struct Tally {
    uint64_t learned, held, early;                        // losses
    uint64_t start_learned, start_held, start_early;      // of the start parameters; means, a sum
    uint64_t best, last;                                  // mean held-back losses of passes
    uint32_t wins_residual, wins_nearest, wins_combined;  // in half points
    uint32_t early_told;                                  // pseudo-faults above the threshold
    int32_t early_score;
    uint16_t later, first;  // windows that were compared by parts
  };

  void go(Stage stage) {
    stage_ = stage;
    index_ = 0;
  }
  [[nodiscard]] bool classifies() const { return p_.profile->outputs == 0; }
  [[nodiscard]] bool picks()
      const;  // the scorer is for us to choose, and there is something to go by
  [[nodiscard]] uint32_t windows() const { return learned_ + held_ + early_; }
  [[nodiscard]] uint32_t slot_of(uint32_t i) const;  // i over learned, held, then early windows
  void load(uint32_t slot);
  [[nodiscard]] Target target_of(uint32_t slot) const;
  [[nodiscard]] uint64_t loss_of(uint32_t slot);

  void measure_isolation();
  void drop_isolated();
  [[nodiscard]] bool looks_apart() const;
  void begin_apart();
  void step_apart();
  [[nodiscard]] int32_t along_of(const int8_t* x) const;
  void measure_apart(uint32_t round, uint32_t window);
  void turn_apart(uint32_t round);
  void after_apart();
  void measure_locality();
  void set_near_weights();
  void measure_residual();
  void measure_loss();
  void measure_held();
  void measure_fake();
  void make_fake(const int8_t* entry, uint32_t variant, Random& random, int8_t* fake) const;

  void after_losses();
  void after_held_scores();
  void after_fakes();
  void after_pass();
  void after_training();
  void judge();
  void choose();
  void finish();

  void train(uint32_t step);
  void augment(uint32_t slot, uint32_t step);
  void restart_parameters();
  [[nodiscard]] Neighbours neighbours(uint32_t slot) const;  // among the other learned windows

  void calibrate();
  [[nodiscard]] uint8_t objections();  // to the trained candidate, Reason bits
  void set_origin(CalibrationHead& head);
  [[nodiscard]] bool bound() const;                  // to the first phase
  [[nodiscard]] bool is_later(uint32_t slot) const;  // stored by a later phase
  [[nodiscard]] bool counts(uint32_t slot) const { return counted_ == learned_ || !is_later(slot); }
  void count_windows();
  void measure_parts();
  [[nodiscard]] int32_t parts_q10() const;
  void compare_held(const int16_t* scores, CalibrationHead& head);
  void check_early();
  void measure_early();
  void compare_early();
  void move_threshold(int32_t by_q10);
  void conclude();

  // The work area, piece by piece.
  [[nodiscard]] Tally& tally() const { return *reinterpret_cast<Tally*>(p_.work); }
  [[nodiscard]] uint64_t* squares() const {
    return reinterpret_cast<uint64_t*>(p_.work + sizeof(Tally) + kGapBytes);
  }
  [[nodiscard]] int32_t* sums() const { return behind<int32_t>(squares() + wide_); }
  [[nodiscard]] int16_t* held_residual() const { return behind<int16_t>(sums() + wide_); }
  [[nodiscard]] int16_t* held_nearest() const {
    return behind<int16_t>(held_residual() + p_.profile->capacity);
  }
  [[nodiscard]] int8_t* clean() const {
    return behind<int8_t>(held_nearest() + p_.profile->capacity);
  }
  // While groups of windows are looked for.
  [[nodiscard]] int16_t* apart_mean() const { return reinterpret_cast<int16_t*>(squares()); }
  [[nodiscard]] int16_t* apart_direction() const { return apart_mean() + wide_; }
  static constexpr uint32_t kWorkRegions = 6;
  // The region that begins where the one before ends.
  template <typename T>
  [[nodiscard]] static T* behind(void* end) {
    return reinterpret_cast<T*>(static_cast<uint8_t*>(end) + kGapBytes);
  }
  void share_out();  // forbids what lies between the regions, until end()

  Parts p_{};
  const LearnConfig* config_ = nullptr;
  LearnReport report_{};
  Stage stage_ = Stage::done;
  Round round_ = Round::start;
  bool candidate_ = false;                      // trained parameters are in RAM
  uint8_t learned_ = 0, held_ = 0, early_ = 0;  // windows, at most the reservoir's 255
  uint8_t counted_ = 0;  // learned ones that count for what a healthy machine is
  uint32_t index_ = 0;   // progress within the stage
  uint32_t wide_ = 0;    // the longer of features and outputs
  uint32_t step_ = 0;    // training steps since the start parameters
  uint32_t total_steps_ = 0;
  uint32_t kept_steps_ = 0;
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LEARN_LEARNER_H_
