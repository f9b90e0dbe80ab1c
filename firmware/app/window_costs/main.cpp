// Counts the instructions of a device's whole job on a board of an emulator: windows by stage, a
// learn phase, a commit, a start. `kilotune bench --window` builds and runs it.
//
// The model lies in the model partition. Samples are random, the same in every run. The result goes
// to the semihosting console, "name count" on each line; counts of windows are sums over kWindows.
#include <cstdint>
#include <cstring>
#include <new>

#include "boards/board.h"
#include "kernel/fixed_point.h"
#include "runtime/engine/engine.h"
#include "runtime/signal/stages.h"
#include "runtime/storage/model_store.h"

namespace kilotune {
namespace {

constexpr uint32_t kWindows = 8;
constexpr uint32_t kLearned = 40;  // more than an ordinary reservoir takes
constexpr uint32_t kFrames = 32;   // given to the engine at a time
constexpr uint32_t kCalibrations = 64;

constexpr const char* kNames[] = {"none",    "intake",    "gate",       "mean_and_hann", "fft",
                                  "bands",   "log",       "statistics", "normalise",     "network",
                                  "scorers", "reservoir", "rest"};
constexpr uint32_t kStages = static_cast<uint32_t>(Stage::count);
static_assert(sizeof kNames / sizeof kNames[0] == kStages, "one name each");

struct Counts {
  uint64_t spent[kStages];
  uint32_t entered[kStages];
};
Counts counts;
Stage now = Stage::none;
uint64_t since = 0;
bool counting = false;

alignas(Engine) uint8_t engine_memory[sizeof(Engine)];
Engine* engine = nullptr;
uint32_t random_state = 1;
uint32_t pushed = 0;

int semihost(int operation, const void* argument) {
  register int r0 asm("r0") = operation;
  register const void* r1 asm("r1") = argument;
  asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

void write(const char* text) { semihost(4, text); }  // SYS_WRITE0

void write(uint64_t n) {
  char digits[24];
  char* p = digits + sizeof digits;
  *--p = 0;
  do {
    *--p = static_cast<char>('0' + n % 10);
    n /= 10;
  } while (n != 0);
  write(p);
}

void tell(const char* what, const char* name, uint64_t n) {
  write(what);
  write(name);
  write(" ");
  write(n);
  write("\n");
}

[[noreturn]] void end() {
  semihost(0x18, reinterpret_cast<const void*>(0x20026));  // ADP_Stopped_ApplicationExit
  for (;;) {
  }
}

void require(Status status, const char* what) {
  if (status == Status::ok) return;
  write("failed ");
  write(static_cast<uint64_t>(status));
  write(" ");
  write(what);
  write("\n");
  end();
}

uint32_t draw() {
  random_state = random_state * 1664525u + 1013904223u;
  return random_state >> 16;
}

// Noise of nearly normal distribution, 1/20 of full scale: about a machine's.
int16_t noise() {
  int32_t sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<int32_t>(draw() & 0xFFFu);
  return static_cast<int16_t>(sum - 8192);
}

// Frames until the window `index` of the stream is complete.
void stream_window(uint32_t index) {
  static int16_t frames[kFrames * kMaxAxes];
  const FeatureConfig& f = engine->features();
  const uint32_t until = f.window + index * f.hop;
  for (; pushed < until;) {
    const uint32_t n = until - pushed < kFrames ? until - pushed : kFrames;
    for (uint32_t i = 0; i < n * f.axes; ++i) frames[i] = noise();
    require(engine->stream_push(reinterpret_cast<const uint8_t*>(frames), n * f.axes * 2u),
            "take samples");
    pushed += n;
  }
}

void begin_stream(uint8_t label) {
  const FeatureConfig& f = engine->features();
  require(engine->stream_begin(StreamKind::samples, f.rate_mhz, f.axes, label), "begin a stream");
  pushed = 0;
}

// What entering a stage costs beside the reading itself: the same for all.
uint64_t cost_of_entering() {
  counts = {};
  enter(Stage::none);
  for (uint32_t i = 0; i < kCalibrations; ++i) enter(Stage::rest);
  enter(Stage::none);
  return counts.spent[static_cast<uint32_t>(Stage::rest)] / kCalibrations;
}

// The windows `first` to `first` + kWindows of the present stream, by stage.
void count_windows(const char* what, uint32_t first) {
  counting = true;
  const uint64_t cost = cost_of_entering();
  counts = {};
  for (uint32_t i = first; i < first + kWindows; ++i) stream_window(i);
  counting = false;
  for (uint32_t s = 1; s < kStages; ++s) {
    const uint64_t own = counts.entered[s] * cost;
    tell(what, kNames[s], counts.spent[s] > own ? counts.spent[s] - own : 0);
  }
}

Status learn() {
  LearnConfig config;
  config.train.rate = make_real(1, -8);
  const Model& model = engine->model();
  if (!model.trainable()) config.passes = 0;
  const bool classifies = model.trainable() && model.training().loss == Loss::cross_entropy;
  config.labelled = classifies ? 1 : 0;
  if (!classifies) config.scorer = Scorer::combined;  // the one that has all the work
  return engine->learn_begin(config);
}

// Windows are learned, the last ones of them counted; then the phase's end is.
void count_learning() {
  require(learn(), "learn");
  begin_stream(0);
  for (uint32_t i = 0; i < kLearned - kWindows; ++i) stream_window(i);
  count_windows("learned ", kLearned - kWindows);
  require(engine->learn_end(), "end the learn phase");
  const uint64_t from = board::instructions();
  while (engine->background()) board::feed_watchdog();
  tell("", "learn_phase", board::instructions() - from);
  tell("", "passes", engine->report().passes_done);
}

template <class Call>
void count_call(const char* name, const Call& call) {
  const uint64_t from = board::instructions();
  const Status status = call();
  const uint64_t spent = board::instructions() - from;
  require(status, name);
  tell("", name, spent);
}

Bytes image;

Status find() {
  image = ModelStore(board::model_flash()).find();
  return Status::ok;
}

Status open() {
  const board::Block ram = board::engine_ram();
  return engine->open(image.data, image.size, ram.data, ram.size, board::checkpoint_flash());
}

void measure() {
  engine = new (engine_memory) Engine;
  require(find(), "find the model");
  require(open(), "open the model");
  if (engine->model().features == 0) require(Status::no_features, "take samples");
  if (board::instructions() == 0) require(Status::unavailable, "count instructions");
  count_learning();
  count_call("commit", [] { return engine->commit(true); });
  count_call("find_model", find);  // goes through the whole model partition
  count_call("start", open);
  begin_stream(0);
  stream_window(0);  // whole, and so twice as long where windows overlap by half
  count_windows("window ", 1);
  tell("", "windows", kWindows);
  end();
}

}  // namespace

void enter(Stage stage) {
  if (!counting) return;
  const uint64_t at = board::instructions();
  counts.spent[static_cast<uint32_t>(now)] += at - since;
  ++counts.entered[static_cast<uint32_t>(now)];
  now = stage;
  since = at;
}

}  // namespace kilotune

int main(int argc, char** argv) {
  kilotune::board::init(argc, argv);
  kilotune::measure();
}
