// The kinds of requests, and the sizes that a build chooses. The rest of the wire format,
// schema/terms.h and the codec, is generated from schema/messages.cddl.
#ifndef KILOTUNE_RUNTIME_LINK_WIRE_H_
#define KILOTUNE_RUNTIME_LINK_WIRE_H_

#include <cstdint>

#include "schema/terms.h"

namespace kilotune {

#ifndef KILOTUNE_VERSION
#error "KILOTUNE_VERSION is the release of the firmware, as a string: the build defines it"
#endif
constexpr char kFirmwareVersion[] = KILOTUNE_VERSION;

// Longest frame, decoded, with header and CRC. Two of them are most of a session's RAM.
#ifndef KILOTUNE_MAX_FRAME
#define KILOTUNE_MAX_FRAME 448
#endif
constexpr uint32_t kMaxFrame = KILOTUNE_MAX_FRAME;
static_assert(kMaxFrame >= 384 && kMaxFrame <= 65535, "the longest fixed message must fit");

// Longest byte string in a message: what header, tag, CRC and the other fields leave.
constexpr uint32_t kChunkBytes = kMaxFrame - 64;

// Of requests; an answer has its request's kind with kAnswer set, the error answer kErrorKind.
enum class Kind : uint8_t {
#define KILOTUNE_REQUEST(number, name, ...) name = number,
#include "schema/requests.def"
#undef KILOTUNE_REQUEST
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LINK_WIRE_H_
