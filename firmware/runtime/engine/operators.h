// The operators that this firmware can execute; a firmware for fewer models may list fewer.
#ifndef KILOTUNE_RUNTIME_ENGINE_OPERATORS_H_
#define KILOTUNE_RUNTIME_ENGINE_OPERATORS_H_

#include "kernel/model.h"

namespace kilotune {

OpTable operator_table();

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_ENGINE_OPERATORS_H_
