// Every operator of the kernel, or those of the only model that a firmware is built for.
#include "runtime/engine/operators.h"

#include "kernel/ops/op.h"

// A bit for each opcode that is linked.
#ifndef KILOTUNE_OPCODES
#define KILOTUNE_OPCODES 0xFFFFFFFF
#endif

namespace kilotune {
namespace {

constexpr const OpKernel* kOperators[] = {  // opcode 1 first
    &kFullyConnected,
    &kSoftmax,
    &kConv2D,
    &kDepthwiseConv2D,
    &kAveragePool2D,
    &kMaxPool2D,
    &kMean,
    &kLookup,
    &kAdd,
    &kMul,
    &kConcatenation,
    &kGather,
    &kReshape,
    &kTransposeConv,
    &kAdaptedLayer,
    &kLstm};
constexpr uint32_t kCount = sizeof(kOperators) / sizeof(kOperators[0]);

struct Table {
  const OpKernel* operators[kCount + 2];  // null after the last
};

// Chosen at compile time, so that unused operators are not linked.
constexpr Table linked() {
  Table table{};
  uint32_t n = 0;
  for (uint32_t i = 0; i < kCount; ++i) {
    if ((uint32_t{KILOTUNE_OPCODES} >> (i + 1) & 1u) != 0) table.operators[n++] = kOperators[i];
  }
  if ((uint32_t{KILOTUNE_OPCODES} >> kAdamOpcode & 1u) != 0) table.operators[n++] = &kAdam;
  return table;
}

}  // namespace

OpTable operator_table() {
  static constexpr Table table = linked();
  return table.operators;
}

}  // namespace kilotune
