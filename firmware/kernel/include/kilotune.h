// The kernel as a library: everything that an application includes. How to use it: docs/LIBRARY.md.
#ifndef KILOTUNE_H_
#define KILOTUNE_H_

#define KILOTUNE_KERNEL_VERSION "0.1.0"

#include "kernel/loss.h"
#include "kernel/model.h"
#include "kernel/ops/op.h"
#include "kernel/status.h"
#include "kernel/trainer.h"

#endif  // KILOTUNE_H_
