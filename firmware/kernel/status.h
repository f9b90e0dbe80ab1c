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

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_STATUS_H_
