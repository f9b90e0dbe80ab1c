// The device's state machine: collect healthy windows, calibrate, train, decide, detect, commit.
//
// Everything here is single-threaded: call it from one loop, never from an interrupt. The engine
// owns no memory: `open` gets one block, with the size that `ram_bytes` gives.
#ifndef KILOTUNE_RUNTIME_ENGINE_ENGINE_H_
#define KILOTUNE_RUNTIME_ENGINE_ENGINE_H_

#include <cstdint>

#include "kernel/model.h"
#include "kernel/trainer.h"
#include "runtime/learn/learner.h"
#include "runtime/learn/profile.h"
#include "runtime/learn/reservoir.h"
#include "runtime/learn/score.h"
#include "runtime/signal/features.h"
#include "runtime/signal/window.h"
#include "runtime/storage/record_store.h"
#include "schema/terms.h"

namespace kilotune {

struct WindowResult {
  uint32_t index;    // windows since the stream began, the first is 0
  int16_t score;     // Q10 log2 of the anomaly score; classifiers: of the highest probability
  uint8_t refused;   // Refusal bits
  uint8_t flags;     // WindowFlag bits
  uint8_t category;  // classifiers: the most probable class
};

struct Counters {
  uint32_t windows;                 // completed since boot
  uint32_t refused[kRefusalCount];  // by Refusal bit
  uint32_t saturated;               // parameters clamped during training
  uint32_t train_steps;             // since boot
  uint32_t inputs_saturated;        // features of windows beyond the range of a model input
  // Candidates refused and learn phases undone since boot, by Reason.
  uint16_t objections[kReasonCount];
  // The last ones, and the number of such learn phases; kept in flash with the checkpoint.
  uint8_t last_reasons, last_returned;
  uint16_t objected;
  uint32_t last_reasons_window;  // `windows` when it happened, kEarlierRun: before this run
  uint32_t anomalies;            // windows scored as such since boot
};

class Engine {
 public:
  // What an image needs: bytes of RAM besides the engine itself, and samples (axes 0: none).
  struct Needs {
    uint32_t ram_bytes;
    FeatureConfig features;
  };
  // The status that `open` would give for the image if there were enough RAM.
  static Status measure(const uint8_t* image, uint32_t image_bytes, Needs& out);
  static uint32_t ram_bytes(const uint8_t* image, uint32_t image_bytes);  // 0: not valid

  // Validates the image, lays out `ram` (8-aligned), loads the newest checkpoint if there is one.
  // `flash` may be null: then nothing persists. On error (no_memory, bad_argument for RAM at
  // another address, or what Model::open gives for the image) the engine stays closed.
  // Calls below give no_model while it is closed, and busy if they cannot run during training.
  Status open(const uint8_t* image, uint32_t image_bytes, uint8_t* ram, uint32_t ram_size,
              const Flash* flash);
  [[nodiscard]] bool is_open() const;

  // --- streams -----------------------------------------------------------------------------
  // A stream is a gap-free run of samples (or of ready feature vectors); starting one empties
  // the window. `label` is used while a labelled learn phase runs. no_features, wrong_axes,
  // wrong_rate (more than 1 % off), bad_argument (the label).
  Status stream_begin(StreamKind kind, uint32_t rate_mhz, uint8_t axes, uint8_t label);
  // `bytes` holds whole frames (bad_argument): int16 little-endian, `axes` (or `features`) values
  // per frame. Computes each completed window and appends its result. wrong_state: no stream.
  Status stream_push(const uint8_t* bytes, uint32_t n);
  [[nodiscard]] uint32_t frame_bytes() const;  // of the present stream
  void stream_gap() {                          // the next frame does not follow the last one
    window_.gap();
    if (lives()) end_record();
  }
  // Number of frames in the present stream of samples; and a copy of those from index `from` on, or
  // from the oldest one kept: as many whole frames as `max_bytes` hold. Returns the bytes, 0 while
  // training.
  [[nodiscard]] uint32_t stream_frames() const { return window_.pushed(); }
  uint32_t stream_copy(uint32_t from, uint8_t* out, uint32_t max_bytes, uint32_t& first) const;
  // Results are kept in a ring of kResultRing: the last ones, by window index.
  static constexpr uint32_t kResultRing = 16;
  [[nodiscard]] uint32_t results_end() const;  // index after the newest result
  [[nodiscard]] bool result(uint32_t index,
                            WindowResult& out) const;  // false: not (or no longer) there

  // --- learning ----------------------------------------------------------------------------
  // no_features; wrong_state: one is in progress; bad_argument: a field is out of range or has no
  // meaning for this model.
  Status learn_begin(const LearnConfig& config);
  // The image's settings for learning without a host; windows 0: the device does not.
  [[nodiscard]] LearnConfig alone_config() const;
  [[nodiscard]] uint32_t alone_windows() const {
    return features_.axes == 0 ? 0 : Profile::alone(model_).windows;
  }
  // Calibrates, then goes to phase train (or detect, with 0 passes). too_few_windows: none to learn
  // from, or none held back although requested; the phase continues.
  Status learn_end();
  // True where the device is to learn on by itself; the owner of the loop begins the phase when
  // there is time, and background() ends it with a commit.
  [[nodiscard]] bool phase_is_due() const {
    return phase_ == Phase::detect && lives() && life_->due();
  }
  Status phase_begin();
  // What an operator says of the alarm: it is normal from now on, or it was a fault, whose windows
  // leave the reservoir. Committed; a rollback undoes it. wrong_state: no life, or no alarm to
  // accept, or a learn phase runs; else as commit(), and nothing has changed but that windows that
  // waited are gone.
  Status acknowledge(Acknowledgement what);
  // How many alarmed records, of how many in a row, are an alarm; committed. bad_argument.
  Status set_alarm_rule(uint32_t alarmed, uint32_t of);
  Status learn_cancel();  // back to the state before learn_begin: the last checkpoint or the base
  bool background();      // one bounded piece of training; true while more remains

  // --- ready inputs ------------------------------------------------------------------------
  [[nodiscard]] int8_t* input();  // model input, in the arena; written before each call
  [[nodiscard]] const int8_t* output() const;  // valid after infer()
  [[nodiscard]] uint32_t input_bytes() const;
  [[nodiscard]] uint32_t output_bytes() const;
  Status infer();
  Status train_begin(const TrainConfig& config);  // step counter to 0, optimiser state cleared
  // One step on input(); `label` for cross-entropy, `target` (output_bytes) for regression, else
  // ignored. wrong_state: a learn phase collects, or nothing has begun since another adapter came;
  // bad_argument: label or target.
  Status train_step(uint16_t label, const int8_t* target);
  [[nodiscard]] uint32_t train_steps() const;  // since train_begin

  // --- adapter -----------------------------------------------------------------------------
  [[nodiscard]] const uint8_t* adapter() const;
  [[nodiscard]] uint32_t adapter_bytes() const;
  // Writes the adapter to flash; returns after verification. A rollback returns to the last stable
  // checkpoint before the present one; `mark_stable` makes a candidate stable. unavailable: no
  // flash; flash_failed: no sector accepted it, and the checkpoint before stays valid.
  // no_checkpoint_room: the flash takes adapters of `checkpoint_room` bytes at most.
  Status commit(bool stable = true);
  [[nodiscard]] uint32_t checkpoint_room() const { return checkpoint_room_; }
  Status mark_stable();
  Status rollback();  // to the checkpoint before the newest, permanently; no_checkpoint: none
  Status restore();   // drop what is not committed: back to the newest checkpoint or the base model
  // A pushed adapter is staged in flash, verified, then becomes the newest checkpoint. begin:
  // wrong_base, bad_argument (its length); append: out_of_order, see RecordStore::append; end:
  // truncated, bad_crc, or bad_argument for values out of range.
  Status push_begin(const uint8_t image_hash[32], uint32_t bytes, uint32_t crc, uint32_t windows,
                    uint32_t steps);
  Status push_append(uint32_t off, const uint8_t* data, uint32_t n);
  [[nodiscard]] uint32_t pushed() const {
    return store_.staged();
  }  // bytes, while one is under way
  Status push_end();

  // --- state -------------------------------------------------------------------------------
  [[nodiscard]] Phase phase() const;
  [[nodiscard]] const Model& model() const;
  [[nodiscard]] const FeatureConfig& features() const;  // axes 0: the model takes ready inputs
  [[nodiscard]] const Counters& counters() const;
  [[nodiscard]] const LearnReport& report() const;
  [[nodiscard]] const LifeState& life() const;
  // Of a device that lives: its records and its rule. Null: it does not.
  [[nodiscard]] const Life* living() const { return lives() ? life_ : nullptr; }
  [[nodiscard]] int32_t record_limit() const;  // that a record's score is compared with, Q10 log2
  [[nodiscard]] bool lives() const { return kHasLife && life_ != nullptr && life_->on(); }
  [[nodiscard]] const RecordInfo& checkpoint() const;  // sequence 0: none
  [[nodiscard]] bool checkpoint_is_stable() const { return store_.current_is_stable(); }
  [[nodiscard]] uint32_t windows_learned() const;  // into the present adapter
  [[nodiscard]] uint32_t steps_trained() const;    // that made the present adapter
 private:
  void load_adapter();  // newest checkpoint, or the base model
  void base_adapter();
  [[nodiscard]] bool acceptable(const uint8_t* adapter) const;  // every field in range
  [[nodiscard]] uint8_t gate(const WindowHealth& health);
  void complete_window();
  uint8_t measure_window();
  void finish_window(const int16_t* features_q10, uint8_t refused);
  void learn_window(const int16_t* features_q10, WindowResult& result);
  void follow_trend(const int16_t* features_q10, const int8_t* input);
  void count_saturated(const int8_t* input);
  void end_training();
  // engine_life.cpp
  void live(const int16_t* features_q10, WindowResult& result);
  void end_record();
  void end_life_phase();
  Status keep_life(const Life& before);
  [[nodiscard]] int32_t sigmas_q6(const int16_t* features_q10, uint32_t i) const;
  void tell_bands(const int16_t* features_q10);
  Status begin_learner();
  [[nodiscard]] int32_t level() const;
  [[nodiscard]] int32_t anchor_distance(const int16_t* features_q10) const;
  [[nodiscard]] Target wanted(uint16_t label, const int8_t* target) const;
  void read_note();
  void write_note(const GuardReport& guard);
  void score_window(const int16_t* features_q10, WindowResult& result);

  Model model_;
  Trainer trainer_;
  FeatureConfig features_;
  Profile profile_;
  Window window_;
  Reservoir reservoir_;
  AdapterView view_;
  Trend trend_;
  Offered offered_{};
  Scoring scoring_;
  Learner learner_;
  Life* life_ = nullptr;  // in the engine's RAM, where the image has room for one
  RecordStore store_;
  uint32_t checkpoint_room_ = 0;  // where the flash is too small for the adapter: what it takes
  LearnConfig learn_;
  Counters counters_{};
  bool open_ = false, streaming_ = false;
  Phase phase_ = Phase::idle;
  StreamKind stream_kind_ = StreamKind::samples;

  uint8_t* adapter_ = nullptr;
  int16_t* q10_ = nullptr;          // features of the present window
  uint8_t* ring_memory_ = nullptr;  // the sample window; work area of the learner
  void* scratch_ = nullptr;         // the FFT's; shares memory with the arena

  uint8_t stream_label_ = 0;
  uint8_t fingerprints_ = 0;      // of `fingerprint_`, that are known
  uint32_t fingerprint_[2] = {};  // of the two windows before, the last one first
  uint32_t results_end_ = 0;
  struct Kept {  // a WindowResult; its index follows from its place
    int16_t score;
    uint8_t refused, flags, category;
  };
  Kept results_[kResultRing] = {};
  uint32_t windows_ = 0, steps_ = 0;  // that made the present adapter
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_ENGINE_ENGINE_H_
