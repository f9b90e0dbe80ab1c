// Every operator of the kernel, or those of the one model that a firmware is built for.
#include "runtime/operators.h"

#include "kernel/ops/op.h"

// A bit for each opcode that is linked.
#ifndef KILOTUNE_OPCODES
#define KILOTUNE_OPCODES 0xFFFFFFFF
#endif
#define KILOTUNE_HAS(opcode) (((KILOTUNE_OPCODES) >> (opcode)) & 1)

namespace kilotune {

OpTable operator_table() {
  static const OpKernel* const table[] = {
#if KILOTUNE_HAS(1)
      &kFullyConnected,
#endif
#if KILOTUNE_HAS(2)
      &kSoftmax,
#endif
#if KILOTUNE_HAS(3)
      &kConv2D,
#endif
#if KILOTUNE_HAS(4)
      &kDepthwiseConv2D,
#endif
#if KILOTUNE_HAS(5)
      &kAveragePool2D,
#endif
#if KILOTUNE_HAS(6)
      &kMaxPool2D,
#endif
#if KILOTUNE_HAS(7)
      &kMean,
#endif
#if KILOTUNE_HAS(8)
      &kLookup,
#endif
#if KILOTUNE_HAS(9)
      &kAdd,
#endif
#if KILOTUNE_HAS(10)
      &kMul,
#endif
#if KILOTUNE_HAS(11)
      &kConcatenation,
#endif
#if KILOTUNE_HAS(12)
      &kGather,
#endif
#if KILOTUNE_HAS(13)
      &kReshape,
#endif
#if KILOTUNE_HAS(14)
      &kTransposeConv,
#endif
      nullptr};
  return table;
}

}  // namespace kilotune
