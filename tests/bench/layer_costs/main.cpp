// Counts the instructions of each operator of one model image, forward and backward, under QEMU's
// mps2-an386 with `-icount shift=0`, where one instruction is one virtual nanosecond.
//
// The image lies at kImage (QEMU's loader puts it there); the result goes to the semihosting
// console, a line an operator: "op opcode forward bias input".
#include "kernel/trainer.h"

using namespace kilotune;

namespace {

constexpr uintptr_t kImage = 0x21000000, kImageBytes = 4 << 20;
constexpr uintptr_t kTimer = 0x40000000;  // CMSDK timer 0, counts down at 25 MHz
constexpr uint64_t kInstructionsPerTick = 40;
constexpr uint32_t kMaxOps = 64, kMaxKernels = 32, kRuns = 8;

volatile uint32_t& reg(uintptr_t address) { return *reinterpret_cast<volatile uint32_t*>(address); }
uint32_t ticks() { return ~reg(kTimer + 4); }

struct Cost {
  uint64_t forward, bias, input;
};
Cost costs[kMaxOps];
const Model* measured = nullptr;

uint32_t index_of(const Op& op) {
  uint32_t i = 0;
  while (measured->op(static_cast<uint16_t>(i)).words.at != op.words.at) ++i;
  return i;
}

// The operators, each of them counted: its forward pass, and backward the update of biases and the
// input's gradient apart.
template <const OpKernel* kernel>
void forward(const Execution& run, const Op& op, bool training) {
  const uint32_t from = ticks();
  kernel->forward(run, op, training);
  costs[index_of(op)].forward += ticks() - from;
}

template <const OpKernel* kernel>
void backward(const Execution& run, const Op& op, Step& step) {
  Op update = op, pass = op;
  update.flags = static_cast<uint8_t>(op.flags & (kBiasTrained | kWeightsTrained | kPerChannel));
  pass.flags = static_cast<uint8_t>(op.flags & ~(kBiasTrained | kWeightsTrained));
  if (op.has(kBiasTrained)) {
    const uint32_t from = ticks();
    kernel->backward(run, update, step);
    costs[index_of(op)].bias += ticks() - from;
  }
  if (!op.has(kBackwardToInput) && !op.has(kBackwardToInput2)) return;
  const uint32_t from = ticks();
  kernel->backward(run, pass, step);
  costs[index_of(op)].input += ticks() - from;
}

OpKernel counted[kMaxKernels];
const OpKernel* operators[kMaxKernels + 1];
uint32_t kernels = 0;

template <const OpKernel* kernel>
void add() {
  OpKernel& own = counted[kernels];
  own = *kernel;
  own.forward = forward<kernel>;
  if (kernel->backward != nullptr) own.backward = backward<kernel>;
  operators[kernels] = &counted[kernels];
  ++kernels;
}

void add_operators() {
  add<&kFullyConnected>();
  add<&kSoftmax>();
  add<&kConv2D>();
  add<&kDepthwiseConv2D>();
  add<&kAveragePool2D>();
  add<&kMaxPool2D>();
  add<&kMean>();
  add<&kLookup>();
  add<&kAdd>();
  add<&kMul>();
  add<&kConcatenation>();
  add<&kGather>();
  add<&kReshape>();
  add<&kTransposeConv>();
  add<&kAdaptedLayer>();
  add<&kLstm>();
}

alignas(4) uint8_t arena[1 << 20], adapter[1 << 18], state[1 << 18];
Model model;
Trainer trainer;

int semihost(int operation, const void* argument) {
  register int r0 asm("r0") = operation;
  register const void* r1 asm("r1") = argument;
  asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}
void write(const char* text) { semihost(4, text); }
void write(uint64_t n) {
  char digits[24];
  char* p = digits + sizeof digits;
  *--p = 0;
  do {
    *--p = static_cast<char>('0' + n % 10);
    n /= 10;
  } while (n != 0);
  write(p);
  write(" ");
}

Target wanted(uint32_t run, const int8_t* target) {
  const Training training = model.training();
  if (training.loss == Loss::cross_entropy)
    return Target::of_class(static_cast<uint16_t>(run & 1u));
  if (training.loss == Loss::reconstruction) return {};
  return Target::of_values(target, model.tensor(training.tensor).channels);
}

bool measure() {
  measured = &model;
  add_operators();
  if (model.open(reinterpret_cast<const uint8_t*>(kImage), kImageBytes, operators) != Status::ok)
    return false;
  if (model.arena_bytes > sizeof arena || model.adapter_bytes > sizeof adapter ||
      model.op_count > kMaxOps)
    return false;
  if (trainer.open(model, arena, adapter, state) != Status::ok) return false;
  TrainConfig config;
  config.rate = make_real(1, -8);
  const bool trains = model.trainable();
  if (trains && trainer.begin(config) != Status::ok) return false;
  const uint32_t inputs = model.tensor(model.input).elements();
  static int8_t target[1 << 16];
  uint32_t random = 1;
  for (uint32_t run = 0; run < kRuns; ++run) {
    for (uint32_t i = 0; i < inputs; ++i) {
      random = random * 1664525u + 1013904223u;
      trainer.input()[i] = static_cast<int8_t>(random >> 24);
    }
    const Status status = trains ? trainer.step(wanted(run, target)) : trainer.forward();
    if (status != Status::ok) return false;
  }
  return true;
}

}  // namespace

extern "C" int kilotune_main() {
  reg(kTimer + 8) = reg(kTimer + 4) = 0xFFFFFFFFu;
  reg(kTimer) = 1;
  if (!measure()) {
    write("failed\n");
  } else {
    for (uint16_t i = 0; i < model.op_count; ++i) {
      write(uint64_t{i});
      write(uint64_t{model.op(i).opcode});
      const uint64_t sums[] = {costs[i].forward, costs[i].bias, costs[i].input};
      for (const uint64_t sum : sums) write(sum * kInstructionsPerTick / kRuns);
      write("\n");
    }
  }
  semihost(0x18, reinterpret_cast<const void*>(0x20026));  // ADP_Stopped_ApplicationExit
  return 0;
}

extern "C" const uintptr_t vectors[];
[[gnu::section(".vectors"), gnu::used]] extern const uintptr_t vectors[] = {
    0x20400000, reinterpret_cast<uintptr_t>(&kilotune_main)};
