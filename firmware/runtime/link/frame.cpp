// Consistent overhead byte stuffing (Cheshire and Baker, 1999), incremental in both directions.
#include "runtime/link/frame.h"

#include "kernel/bytes.h"

namespace kilotune {
namespace {
constexpr uint8_t kLongestBlock = 0xFF;  // 254 bytes that are not followed by a zero
}  // namespace

void FrameDecoder::append(uint8_t byte) {
  if (size_ < capacity_) {
    buffer_[size_++] = byte;
  } else {
    overflow_ = true;
  }
}

bool FrameDecoder::push(uint8_t byte) {
  if (byte == 0) return finish();
  if (left_ == 0) {
    // The zero that a block stands for is written only once another block follows it.
    if (code_ != 0 && code_ != kLongestBlock) append(0);
    code_ = byte;
    left_ = static_cast<uint8_t>(byte - 1);
  } else {
    append(byte);
    --left_;
  }
  return false;
}

uint32_t FrameDecoder::take(const uint8_t* bytes, uint32_t n, bool& complete) {
  complete = false;
  uint32_t taken = 0;
  while (taken < n && !complete) {
    // Within a block and the buffer, whatever is no zero is copied as it is.
    const uint32_t left = n - taken, room = capacity_ - size_;
    uint32_t run = left_ < left ? left_ : left;
    if (run > room) run = room;
    const uint8_t* const from = bytes + taken;
    uint8_t* const to = buffer_ + size_;
    uint32_t copied = 0;
    for (; copied < run && from[copied] != 0; ++copied) to[copied] = from[copied];
    size_ += copied;
    left_ = static_cast<uint8_t>(left_ - copied);
    taken += copied;
    if (taken < n) complete = push(bytes[taken++]);
  }
  return taken;
}

bool FrameDecoder::finish() {
  const uint32_t size = size_;
  const bool empty = code_ == 0;
  const bool torn = left_ != 0;
  const bool overflow = overflow_;
  size_ = 0;
  code_ = left_ = 0;
  overflow_ = false;

  if (empty) return false;
  if (overflow) {
    ++counters_.too_long;
    return false;
  }
  if (torn) {
    ++counters_.bad_cobs;
    return false;
  }
  if (size <= kFrameCrcBytes ||
      crc32(buffer_, size - kFrameCrcBytes) != load_u32(buffer_ + size - kFrameCrcBytes)) {
    ++counters_.bad_crc;
    return false;
  }
  ++counters_.frames;
  body_bytes_ = size - kFrameCrcBytes;
  return true;
}

void frame_write(uint8_t* frame, uint32_t body_bytes, const Link& link) {
  store_u32(frame + body_bytes, crc32(frame, body_bytes));
  const uint32_t n = body_bytes + kFrameCrcBytes;
  uint32_t start = 0;
  bool more = true;
  while (more) {
    uint32_t end = start;
    while (end < n && frame[end] != 0 && end - start < kLongestBlock - 1u) ++end;
    const uint8_t code = static_cast<uint8_t>(end - start + 1);
    link.write(link.context, &code, 1);
    if (end > start) link.write(link.context, frame + start, end - start);
    // A block ends at a zero, which it stands for, or has the maximum length, or is the last.
    const bool at_zero = end < n && frame[end] == 0 && code != kLongestBlock;
    more = at_zero || end < n;
    start = at_zero ? end + 1 : end;
  }
  const uint8_t delimiter = 0;
  link.write(link.context, &delimiter, 1);
}

}  // namespace kilotune
