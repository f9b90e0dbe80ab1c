// Every operator of the kernel.
#include "runtime/operators.h"

#include "kernel/ops/op.h"

namespace kilotune {

OpTable operator_table() {
  static const OpKernel* const table[] = {&kFullyConnected,
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
                                          nullptr};
  return table;
}

}  // namespace kilotune
