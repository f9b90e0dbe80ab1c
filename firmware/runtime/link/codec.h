// Requests and strings for the functions that zcbor generates from schema/messages.cddl.
#ifndef KILOTUNE_RUNTIME_LINK_CODEC_H_
#define KILOTUNE_RUNTIME_LINK_CODEC_H_

#include <messages_decode.h>
#include <messages_encode.h>

#include <cstddef>

#include "kernel/bytes.h"
#include "kernel/status.h"
#include "kernel/trainer.h"

namespace kilotune {

// A request without fields has no CBOR at all.
struct None {};
inline int cbor_decode_none(const uint8_t*, size_t, None*, size_t* used) {
  *used = 0;
  return ZCBOR_SUCCESS;
}

// The type that a decoder of zcbor fills.
template <typename T>
T decoded(int (*decoder)(const uint8_t*, size_t, T*, size_t*));

// The fields of any request, each named like its handler. Byte strings point into the message.
union Fields {
#define KILOTUNE_REQUEST(number, name, request, ...) decltype(decoded(cbor_decode_##request)) name;
#include "schema/requests.def"
#undef KILOTUNE_REQUEST
};

[[nodiscard]] inline zcbor_string to_zcbor(const void* data, uint32_t n) {
  // Copied from even when it is empty, so it must be a valid pointer.
  return {static_cast<const uint8_t*>(n == 0 ? "" : data), n};
}
// zcbor refuses lengths that do not fit the frame, so none exceeds 32 bits.
[[nodiscard]] inline Bytes to_bytes(const zcbor_string& s) {
  return {s.value, static_cast<uint32_t>(s.len)};
}

// Refuses impossible values; the engine checks the rest against the model.
[[nodiscard]] Status to_config(const train_config& m, TrainConfig& out);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LINK_CODEC_H_
