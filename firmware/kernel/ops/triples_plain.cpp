// Cores without dual multiplies gain nothing from interleaved rows.
#include "kernel/ops/triples.h"

#ifndef __ARM_FEATURE_DSP

namespace kilotune {

bool backward_in_triples(const Execution& /*run*/, const Op& /*op*/, const Window& /*w*/,
                         int /*exponent*/, const int8_t* /*weights*/) {
  return false;
}

}  // namespace kilotune

#endif  // __ARM_FEATURE_DSP
