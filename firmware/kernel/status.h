// Status codes of every fallible call; the list itself is status.def.
#ifndef KILOTUNE_KERNEL_STATUS_H_
#define KILOTUNE_KERNEL_STATUS_H_

#include <cstdint>

namespace kilotune {

enum class Status : uint8_t {
#define KILOTUNE_STATUS(name, code, text, hint) name = code,
#include "kernel/status.def"
#undef KILOTUNE_STATUS
};

// Leaves the function with what `expression` gives, unless that is ok.
#define KILOTUNE_TRY(expression)                           \
  do {                                                     \
    const ::kilotune::Status status_ = (expression);       \
    if (status_ != ::kilotune::Status::ok) return status_; \
  } while (false)

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_STATUS_H_
