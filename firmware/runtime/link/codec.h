// Decoding of whole messages with the functions that zcbor makes from schema/messages.cddl.
#ifndef KILOTUNE_RUNTIME_LINK_CODEC_H_
#define KILOTUNE_RUNTIME_LINK_CODEC_H_

#include <messages_decode.h>
#include <messages_encode.h>

#include <cstddef>

#include "kernel/bytes.h"
#include "kernel/status.h"
#include "kernel/trainer.h"

namespace kilotune {

// Byte strings in `out` lead into `in`. Bytes behind the message make it a bad one.
template <typename T>
[[nodiscard]] Status decode(int (*decoder)(const uint8_t*, size_t, T*, size_t*), const Bytes& in,
                            T& out) {
  size_t used = 0;
  const bool good = decoder(in.data, in.size, &out, &used) == ZCBOR_SUCCESS && used == in.size;
  return good ? Status::ok : Status::bad_message;
}

[[nodiscard]] inline zcbor_string to_zcbor(const void* data, uint32_t n) {
  // Copied from even when it is empty, so it must lead somewhere.
  return {static_cast<const uint8_t*>(n == 0 ? "" : data), n};
}
// zcbor refuses lengths that do not fit the frame, so none exceeds 32 bits.
[[nodiscard]] inline Bytes to_bytes(const zcbor_string& s) {
  return {s.value, static_cast<uint32_t>(s.len)};
}

// Refuses what no TrainConfig can mean; the engine holds it against the model.
[[nodiscard]] Status to_config(const train_config& m, TrainConfig& out);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LINK_CODEC_H_
