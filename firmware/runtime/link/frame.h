// Frames on a byte stream: COBS, a CRC-32 after each body, and a zero byte after each frame.
// Format: docs/SPEC.md, section 3.1. Not for interrupts.
#ifndef KILOTUNE_RUNTIME_LINK_FRAME_H_
#define KILOTUNE_RUNTIME_LINK_FRAME_H_

#include <cstdint>

namespace kilotune {

constexpr uint32_t kFrameCrcBytes = 4;

// Maximum bytes on the line for a frame with `n` bytes of body and CRC, including the final zero.
constexpr uint32_t frame_worst_case_bytes(uint32_t n) { return n + n / 254 + 2; }

// Counts of what arrived; a damaged frame is counted and has no other effect.
struct FrameCounters {
  uint32_t frames = 0;    // intact
  uint32_t bad_crc = 0;   // checksum wrong, or too short to have one
  uint32_t bad_cobs = 0;  // ended inside a block
  uint32_t too_long = 0;  // did not fit the buffer
};

// Decodes byte by byte into the caller's buffer; after any damage, continues at the next zero byte.
// A run of zero bytes is neither a frame nor an error.
class FrameDecoder {
 public:
  // `buffer` takes body and CRC of one frame: `capacity` is the longest frame there is.
  FrameDecoder(uint8_t* buffer, uint32_t capacity) : buffer_(buffer), capacity_(capacity) {}

  // True when `byte` completed an intact frame; its body is valid until the next push.
  [[nodiscard]] bool push(uint8_t byte);
  // The same for many bytes: takes them up to the end of the first intact frame, or all `n`.
  // Returns how many; `complete` says whether such a frame ended with the last of them.
  uint32_t take(const uint8_t* bytes, uint32_t n, bool& complete);
  [[nodiscard]] const uint8_t* body() const { return buffer_; }
  [[nodiscard]] uint32_t body_bytes() const { return body_bytes_; }

  [[nodiscard]] const FrameCounters& counters() const { return counters_; }

 private:
  void append(uint8_t byte);
  [[nodiscard]] bool finish();

  uint8_t* buffer_;
  uint32_t capacity_;
  uint32_t size_ = 0;        // decoded bytes of the frame that is arriving
  uint32_t body_bytes_ = 0;  // of the frame that arrived
  uint8_t code_ = 0;         // of the present block, 0: the frame has none yet
  uint8_t left_ = 0;         // bytes that the present block still has
  bool overflow_ = false;
  FrameCounters counters_;
};

// Where encoded bytes go; must accept all of them, waiting as long as necessary.
struct Link {
  void* context;
  void (*write)(void* context, const uint8_t* data, uint32_t n);
};

// Puts the CRC after the `body_bytes` in `frame` (which has room for kFrameCrcBytes more), then
// writes the encoded frame. `frame` keeps its contents and can be written again.
void frame_write(uint8_t* frame, uint32_t body_bytes, const Link& link);

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LINK_FRAME_H_
