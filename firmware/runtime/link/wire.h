// The protocol's numbers: version, message kinds and sizes. Messages: schema/messages.cddl.
#ifndef KILOTUNE_RUNTIME_LINK_WIRE_H_
#define KILOTUNE_RUNTIME_LINK_WIRE_H_

#include <cstdint>

namespace kilotune {

#ifndef KILOTUNE_VERSION
#error "KILOTUNE_VERSION is the release of the firmware, as a string: the build defines it"
#endif
constexpr char kFirmwareVersion[] = KILOTUNE_VERSION;
constexpr uint8_t kProtocolVersion = 1;

// Longest frame, decoded, with header and CRC. Two of them are most of a session's RAM.
#ifndef KILOTUNE_MAX_FRAME
#define KILOTUNE_MAX_FRAME 448
#endif
constexpr uint32_t kMaxFrame = KILOTUNE_MAX_FRAME;
static_assert(kMaxFrame >= 384 && kMaxFrame <= 65535, "the longest fixed message must fit");

// In front of the CBOR: u8 protocol version, u8 kind, u16 session, u16 sequence number.
constexpr uint32_t kWireHeaderBytes = 6;
// Behind the CBOR of a message with kTagged in its kind.
constexpr uint32_t kTagBytes = 16;
constexpr uint32_t kChallengeBytes = 16;
constexpr uint32_t kKeyIdBytes = 8;
// Longest byte string in a message: what is left beside header, tag, CRC and its other fields.
constexpr uint32_t kChunkBytes = kMaxFrame - 64;
constexpr uint32_t kWireResultBytes = 6;

// An answer has the request's kind with kAnswer set; the error answer has a kind of its own.
enum class Kind : uint8_t {
  hello = 1,
  model = 2,
  status = 3,
  reset = 4,
  challenge = 5,
  key = 6,
  learn_begin = 8,
  learn_end = 9,
  learn_cancel = 10,
  stream_begin = 16,
  samples = 17,
  stream_end = 18,
  results = 19,
  input_write = 24,
  infer = 25,
  output_read = 26,
  train_begin = 27,
  train_step = 28,
  bench = 29,
  commit = 32,
  rollback = 33,
  restore = 34,
  pull = 35,
  push_begin = 36,
  push = 37,
  push_end = 38,
  adapter_tag = 39,
  commit_candidate = 40,
  mark_stable = 41,
  model_begin = 44,
  model_piece = 45,
  model_end = 46,
  model_rollback = 47,
  sensor_test = 48,
  raw = 49,
};
constexpr uint8_t kAnswer = 0x80;
constexpr uint8_t kTagged = 0x40;
constexpr uint8_t kErrorAnswer = 0xFF;

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LINK_WIRE_H_
