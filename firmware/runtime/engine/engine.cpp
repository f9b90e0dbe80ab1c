// Memory layout, streams, phases and persistence; the learning itself is in learner.cpp.
#include "runtime/engine/engine.h"

#include <new>

#include "kernel/pool.h"
#include "runtime/engine/operators.h"
#include "runtime/signal/stages.h"

namespace kilotune {
namespace {

// What one image needs, piece by piece.
struct Layout {
  uint32_t adapter, state, work, ring, features, trend, life;
  [[nodiscard]] uint32_t total() const {
    return Pool::room(adapter) + Pool::room(state) + Pool::room(work) + Pool::room(ring) +
           Pool::room(features) + Pool::room(trend) + (life == 0 ? 0 : Pool::room(life));
  }
};

Layout layout_of(const Model& model, const FeatureConfig& f, const Profile& profile) {
  Layout l = {model.adapter_bytes, model.state_bytes, model.arena_bytes, 0, 0, 0, 0};
  if (model.features != 0) {
    // The FFT and the network never run at the same time.
    const uint32_t fft = feature_scratch_bytes(f);
    l.work = l.work > fft ? l.work : fft;
    // While training, no samples are taken, so the learner uses the sample window's memory.
    const uint32_t ring = Window::bytes(f.window, f.axes);
    const uint32_t work = Learner::work_bytes(profile, f.features_total);
    l.ring = ring > work ? ring : work;
    l.features = 2u * f.features_total;
    l.trend = profile.early == 0 ? 0 : l.features;
    l.life = kHasLife && Profile::life(model).of != 0 ? sizeof(Life) : 0;
  }
  return l;
}

// Opens everything that the image describes.
Status open_image(const uint8_t* image, uint32_t bytes, Model& model, FeatureConfig& features,
                  Profile& profile) {
  Status status = model.open(image, bytes, operator_table());
  if (status != Status::ok || model.features == 0) return status;
  status = features_open(image, model.image().size, model.features, features);
  return status == Status::ok ? profile.open(model, features) : status;
}

}  // namespace

Status Engine::measure(const uint8_t* image, uint32_t image_bytes, Needs& out) {
  Model model;
  Profile profile;
  out = {};
  const Status status = open_image(image, image_bytes, model, out.features, profile);
  if (status == Status::ok) out.ram_bytes = layout_of(model, out.features, profile).total();
  return status;
}

uint32_t Engine::ram_bytes(const uint8_t* image, uint32_t image_bytes) {
  Needs needs;
  return measure(image, image_bytes, needs) == Status::ok ? needs.ram_bytes : 0;
}

Status Engine::open(const uint8_t* image, uint32_t image_bytes, uint8_t* ram, uint32_t ram_size,
                    const Flash* flash) {
  open_ = false;
  phase_ = Phase::idle;
  streaming_ = false;
  learner_.end();
  life_ = nullptr;
  counters_ = {};
  results_end_ = 0;
  features_ = {};
  trainer_.close();
  new (&model_) Model;  // its image may be another
  Status status = open_image(image, image_bytes, model_, features_, profile_);
  if (status != Status::ok) return status;
  const Layout l = layout_of(model_, features_, profile_);
  if (l.total() > ram_size) return Status::no_memory;
  if (reinterpret_cast<uintptr_t>(ram) % 8 != 0) return Status::bad_argument;
  Pool pool({ram, ram_size});
  adapter_ = pool.take(l.adapter);
  uint8_t* const state = pool.take(l.state);
  uint8_t* const work = pool.take(l.work);
  scratch_ = work;
  status = trainer_.open(model_, {work, l.work}, {adapter_, l.adapter}, {state, l.state});
  if (status != Status::ok) return status;
  if (model_.features != 0) {
    const LifeConfig life = Profile::life(model_);
    view_ = AdapterView(adapter_, features_.features_total, profile_.outputs, profile_.capacity,
                        profile_.early, life.of != 0);
    if (view_.lives()) {
      life_ = new (pool.take(l.life)) Life;
      life_->open(life);
    }
    ring_memory_ = pool.take(l.ring);
    window_.open(reinterpret_cast<int16_t*>(ring_memory_), features_.window, features_.hop,
                 features_.axes);
    q10_ = reinterpret_cast<int16_t*>(pool.take(l.features));
    int16_t* const means = reinterpret_cast<int16_t*>(pool.take(l.trend));
    trend_.open(l.trend == 0 ? nullptr : means);
    scoring_ = Scoring(&model_, &trainer_, &profile_, &view_);
  }
  // Without flash, or with one too small for this adapter, everything but persistence works.
  checkpoint_room_ = 0;
  if (store_.mount(flash, model_.image_hash(), model_.adapter_bytes) != Status::ok) {
    store_ = {};
    if (flash != nullptr) checkpoint_room_ = RecordStore::capacity(*flash);
  }
  open_ = true;
  read_note();
  load_adapter();
  return Status::ok;
}

bool Engine::is_open() const { return open_; }

void Engine::base_adapter() {
  std::memset(adapter_, 0, model_.adapter_bytes);
  (void)trainer_.reset_parameters();
  if (model_.features != 0) profile_.reset(view_);
  windows_ = steps_ = 0;
}

bool Engine::acceptable(const uint8_t* adapter) const {
  if (!trainer_.parameters_valid(adapter, model_.adapter_bytes)) return false;
  if (model_.features == 0) return true;
  // Only read: the view's type does not distinguish.
  const AdapterView view(const_cast<uint8_t*>(adapter), view_.features(), view_.outputs(),
                         view_.capacity(), view_.early_capacity(), view_.lives());
  return profile_.accepts(view);
}

void Engine::load_adapter() {
  trainer_.end();
  learner_.end();
  if (store_.payload() != nullptr) {
    std::memcpy(adapter_, store_.payload(), model_.adapter_bytes);
    windows_ = store_.current().windows;
    steps_ = store_.current().steps;
    if (!acceptable(adapter_)) base_adapter();
  } else {
    base_adapter();
  }
  phase_ = Phase::idle;
  if (model_.features != 0) {
    const CalibrationHead head = view_.head();
    reservoir_.restore(&view_, head);
    if (view_.lives()) life_->load(view_.life());
    if (lives()) reservoir_.live(life_->state().seed);
    if (head.calibrated != 0) phase_ = Phase::detect;
  }
}

// --- streams -----------------------------------------------------------------------------------

Status Engine::stream_begin(StreamKind kind, uint32_t rate_mhz, uint8_t axes, uint8_t label) {
  if (!open_) return Status::no_model;
  if (model_.features == 0) return Status::no_features;
  if (phase_ == Phase::train) return Status::busy;
  if (axes != features_.axes) return Status::wrong_axes;
  // 1 % is more than the error of any crystal, and less than the difference of two common rates.
  const uint32_t off =
      rate_mhz > features_.rate_mhz ? rate_mhz - features_.rate_mhz : features_.rate_mhz - rate_mhz;
  if (off > features_.rate_mhz / 100) return Status::wrong_rate;
  const Training t = model_.training();
  if (phase_ == Phase::learn && learn_.labelled != 0 && label >= t.classes)
    return Status::bad_argument;
  if (lives()) end_record();
  stream_kind_ = kind;
  stream_label_ = label;
  streaming_ = true;
  fingerprints_ = 0;
  results_end_ = 0;
  window_.reset();
  return Status::ok;
}

uint32_t Engine::frame_bytes() const {
  return 2u * (stream_kind_ == StreamKind::samples ? features_.axes : features_.features_total);
}

Status Engine::stream_push(const uint8_t* bytes, uint32_t n) {
  if (!open_) return Status::no_model;
  if (!streaming_) return Status::wrong_state;
  if (phase_ == Phase::train) return Status::busy;
  const uint32_t frame = frame_bytes();
  if (n % frame != 0) return Status::bad_argument;
  enter(Stage::intake);
  for (const uint8_t* const end = bytes + n; bytes != end;) {
    if (stream_kind_ == StreamKind::features) {
      std::memcpy(q10_, bytes, frame);
      finish_window(q10_, 0);
      bytes += frame;
      continue;
    }
    bool complete = false;
    bytes += frame * window_.take(bytes, static_cast<uint32_t>(end - bytes) / frame, complete);
    if (complete) complete_window();
  }
  enter(Stage::none);
  return Status::ok;
}

void Engine::complete_window() {
  const uint8_t refused = measure_window();
  finish_window(q10_, refused);
  enter(Stage::intake);
}

// Features and Refusal bits of the window. Apart from what scores it, so that its ranges are off
// the stack by then.
[[gnu::noinline]] uint8_t Engine::measure_window() {
  enter(Stage::gate);
  AxisRange ranges[kMaxAxes];
  const uint8_t refused = gate(window_.health(ranges));
  features_compute(features_, window_.ring(), window_.first(), ranges, scratch_, q10_);
  return refused;
}

uint32_t Engine::stream_copy(uint32_t from, uint8_t* out, uint32_t max_bytes,
                             uint32_t& first) const {
  const uint32_t end = window_.pushed();
  const uint32_t oldest = end > features_.window ? end - features_.window : 0;
  first = from < oldest ? oldest : (from < end ? from : end);
  if (!streaming_ || stream_kind_ != StreamKind::samples || phase_ == Phase::train) return 0;
  const uint32_t frame = 2u * features_.axes;
  uint32_t bytes = 0;
  for (uint32_t i = first; i < end && bytes + frame <= max_bytes; ++i, bytes += frame) {
    std::memcpy(out + bytes, window_.frame(i), frame);
  }
  return bytes;
}

uint32_t Engine::results_end() const { return results_end_; }

bool Engine::result(uint32_t index, WindowResult& out) const {
  if (index >= results_end_ || index + kResultRing < results_end_) return false;
  const Kept& r = results_[index % kResultRing];
  out = {index, r.score, r.refused, r.flags, r.category};
  return true;
}

// --- learning ----------------------------------------------------------------------------------

Status Engine::learn_begin(const LearnConfig& config) {
  if (!open_) return Status::no_model;
  if (model_.features == 0) return Status::no_features;
  if (phase_ == Phase::train) return Status::busy;
  if (phase_ == Phase::learn) return Status::wrong_state;
  if (!kHasLife && config.lives != 0) return Status::no_life;
  const bool classifies = model_.training().loss == Loss::cross_entropy;
  const bool good = config.hold_period >= 1 && config.hold_count < config.hold_period &&
                    (config.labelled != 0) == classifies && config.scorer <= Scorer::combined &&
                    config.guard <= Guard::none &&
                    (config.lives == 0 || (view_.lives() && config.resume == 0));
  if (!good) return Status::bad_argument;
  // Where nothing is to be trained, any rate will do.
  TrainConfig train = config.train;
  if (config.passes == 0) train.rate = make_real(1, 0);
  KILOTUNE_TRY(trainer_.begin(train));
  trainer_.end();
  // Learning starts from what flash holds, so that training can be repeated from there exactly.
  if (config.resume != 0) load_adapter();
  const bool resume =
      config.resume != 0 && store_.payload() != nullptr && view_.head().calibrated != 0;
  if (kHasLife && config.lives != 0) {
    base_adapter();
    reservoir_.begin(&view_, kHoldRecords, 1, config.train.seed);
    life_->begin(config.train.seed);
  } else if (resume) {
    // What waits for a phase of a life is in other steps than model inputs.
    if (view_.lives()) reservoir_.drop_waiting();
    reservoir_.resume(config.hold_period, config.hold_count, config.train.seed,
                      config.guard == Guard::all && !classifies);
  } else {
    base_adapter();
    reservoir_.begin(&view_, config.hold_period, config.hold_count, config.train.seed);
  }
  if (config.lives == 0 && view_.lives()) {
    life_->stop();
    life_->save(view_.life());
  }
  learn_ = config;
  learn_.resume = resume ? 1 : 0;
  trend_.begin(resume ? kAgeMemory : kTrendMemory);
  offered_ = {};
  phase_ = Phase::learn;
  streaming_ = false;
  return Status::ok;
}

LearnConfig Engine::alone_config() const {
  const AloneConfig alone = Profile::alone(model_);
  LearnConfig config;
  config.train.rate = alone.rate;
  config.passes = alone.rate.is_zero() ? uint16_t{0} : alone.passes;
  config.lives = view_.lives() ? 1 : 0;
  return config;
}

Status Engine::learn_end() {
  if (!open_) return Status::no_model;
  if (phase_ != Phase::learn) return Status::wrong_state;
  if (!lives()) return begin_learner();
  end_record();
  const Status status = begin_learner();
  if (status == Status::ok) life_->begin_phase();
  return status;
}

Status Engine::begin_learner() {
  const Learner::Parts parts = {
      &model_,  &trainer_,    &profile_,
      &view_,   &reservoir_,  &scoring_,
      &trend_,  &offered_,    static_cast<uint8_t>(features_.features_per_axis),
      adapter_, ring_memory_, store_.payload()};
  const Status status = learner_.begin(parts, learn_);
  if (status != Status::ok) return status;
  phase_ = Phase::train;
  streaming_ = false;
  return Status::ok;
}

Status Engine::learn_cancel() {
  if (!open_) return Status::no_model;
  if (phase_ != Phase::learn && phase_ != Phase::train) return Status::wrong_state;
  return restore();
}

bool Engine::background() {
  if (!open_ || phase_ != Phase::train) return false;
  if (learner_.step()) return true;
  end_training();
  return false;
}

void Engine::end_training() {
  const GuardReport& guard = learner_.report().guard;
  counters_.train_steps += learner_.kept_steps();
  counters_.saturated += trainer_.saturated();
  window_.reset();
  trainer_.end();
  learner_.end();
  phase_ = Phase::detect;
  for (uint32_t i = 0; i < kReasonCount; ++i) {
    uint16_t& count = counters_.objections[i];
    count = static_cast<uint16_t>(count + ((guard.reasons >> i) & 1u));
  }
  if (guard.reasons != 0) write_note(guard);
  // Only a phase that continued from a checkpoint is undone: that is still the newest one.
  if (guard.returned != 0) return load_adapter();
  steps_ = lives() ? learner_.kept_steps() : steps_ + learner_.kept_steps();
  if (lives()) end_life_phase();
}

// The objections of guardrails survive a restart in the note of the checkpoint (docs/SPEC.md,
// section 4).
void Engine::read_note() {
  const uint32_t note = store_.note();
  counters_.last_reasons = static_cast<uint8_t>(note);
  counters_.last_returned = static_cast<uint8_t>(note >> 8);
  counters_.objected = static_cast<uint16_t>(note >> 16);
  counters_.last_reasons_window = note == 0 ? 0 : kEarlierRun;
}

void Engine::write_note(const GuardReport& guard) {
  counters_.last_reasons = guard.reasons;
  counters_.last_returned = guard.returned;
  counters_.last_reasons_window = counters_.windows;
  if (counters_.objected < 0xFFFF) ++counters_.objected;
  const uint32_t note = guard.reasons | static_cast<uint32_t>(guard.returned) << 8 |
                        static_cast<uint32_t>(counters_.objected) << 16;
  static_cast<void>(store_.set_note(note));  // if flash fails, the next checkpoint has it
}

// --- ready inputs ------------------------------------------------------------------------------

int8_t* Engine::input() { return trainer_.input(); }
const int8_t* Engine::output() const { return trainer_.output(); }
uint32_t Engine::input_bytes() const { return open_ ? model_.tensor(model_.input).elements() : 0; }
uint32_t Engine::output_bytes() const {
  return open_ ? model_.tensor(model_.output).elements() : 0;
}

Status Engine::infer() {
  if (!open_) return Status::no_model;
  if (phase_ == Phase::train) return Status::busy;
  return trainer_.forward();
}

Status Engine::train_begin(const TrainConfig& config) {
  if (!open_) return Status::no_model;
  if (phase_ == Phase::train) return Status::busy;
  if (phase_ == Phase::learn) return Status::wrong_state;
  return trainer_.begin(config);
}

// What the model's loss takes of the two.
Target Engine::wanted(uint16_t label, const int8_t* target) const {
  Target wanted;
  if (!model_.trainable()) return wanted;
  const Loss loss = model_.training().loss;
  if (loss == Loss::cross_entropy) wanted.category = label;
  if (loss == Loss::regression) {
    wanted.values = target;
    wanted.count = static_cast<uint16_t>(output_bytes());
  }
  return wanted;
}

Status Engine::train_step(uint16_t label, const int8_t* target) {
  if (!open_) return Status::no_model;
  if (phase_ == Phase::train) return Status::busy;
  if (phase_ == Phase::learn) return Status::wrong_state;
  KILOTUNE_TRY(trainer_.step(wanted(label, target)));
  ++counters_.train_steps;
  ++steps_;
  return Status::ok;
}

uint32_t Engine::train_steps() const { return trainer_.steps(); }

// --- adapter -----------------------------------------------------------------------------------

const uint8_t* Engine::adapter() const { return adapter_; }
uint32_t Engine::adapter_bytes() const { return open_ ? model_.adapter_bytes : 0; }

Status Engine::commit(bool stable) {
  if (!open_) return Status::no_model;
  if (phase_ == Phase::learn) return Status::wrong_state;
  if (phase_ == Phase::train) return Status::busy;
  if (checkpoint_room_ != 0) return Status::no_checkpoint_room;
  end_record();  // half a record would be a stranger's after a restart
  const uint32_t bytes = model_.adapter_bytes;
  const Status status = store_.commit(
      adapter_, {model_.image_hash(), bytes, crc32(adapter_, bytes), windows_, steps_, stable});
  if (status == Status::ok && lives()) life_->note_commit(status);
  return status;
}

Status Engine::mark_stable() { return open_ ? store_.mark_stable() : Status::no_model; }

Status Engine::rollback() {
  if (!open_) return Status::no_model;
  if (phase_ == Phase::train) return Status::busy;
  const Status status = store_.rollback();
  if (status == Status::ok) load_adapter();
  return status;
}

Status Engine::restore() {
  if (!open_) return Status::no_model;
  streaming_ = false;
  load_adapter();
  return Status::ok;
}

Status Engine::push_begin(const uint8_t image_hash[32], uint32_t bytes, uint32_t crc,
                          uint32_t windows, uint32_t steps) {
  if (!open_) return Status::no_model;
  if (phase_ == Phase::train) return Status::busy;
  if (std::memcmp(image_hash, model_.image_hash(), kHashBytes) != 0) return Status::wrong_base;
  if (bytes != model_.adapter_bytes) return Status::bad_argument;
  if (checkpoint_room_ != 0) return Status::no_checkpoint_room;
  return store_.begin({image_hash, bytes, crc, windows, steps, true});
}

Status Engine::push_append(uint32_t off, const uint8_t* data, uint32_t n) {
  return open_ ? store_.append(off, data, n) : Status::no_model;
}

Status Engine::push_end() {
  if (!open_) return Status::no_model;
  if (phase_ == Phase::train) return Status::busy;
  // Checked before it becomes valid: a well-formed transfer may still hold values out of range.
  const uint8_t* staged = store_.staged_payload();
  if (staged != nullptr && store_.staged() == model_.adapter_bytes && !acceptable(staged)) {
    return Status::bad_argument;
  }
  const Status status = store_.seal();
  if (status == Status::ok) load_adapter();
  return status;
}

// --- state -------------------------------------------------------------------------------------

Phase Engine::phase() const { return phase_; }
const Model& Engine::model() const { return model_; }
const Counters& Engine::counters() const { return counters_; }
const LearnReport& Engine::report() const { return learner_.report(); }
const RecordInfo& Engine::checkpoint() const { return store_.current(); }
uint32_t Engine::windows_learned() const { return windows_; }
uint32_t Engine::steps_trained() const { return steps_; }
const FeatureConfig& Engine::features() const { return features_; }

}  // namespace kilotune
