// A ring between one producer (the receive interrupt) and one consumer (the main loop).
#ifndef KILOTUNE_BOARDS_COMMON_RECEIVE_RING_H_
#define KILOTUNE_BOARDS_COMMON_RECEIVE_RING_H_

#include <cstdint>

namespace kilotune::board {

// `Size` is a power of two; all of it can be filled.
template <uint32_t Size>
class ReceiveRing {
  static_assert((Size & (Size - 1)) == 0 && Size <= 32768, "a power of two that counters tell");

 public:
  static constexpr uint32_t kCapacity = Size;

  [[gnu::always_inline]] void put(uint8_t byte) {  // interrupt
    const uint16_t head = head_;
    const uint16_t held = static_cast<uint16_t>(head - tail_);
    if (held == Size) {
      count_lost();
      return;
    }
    bytes_[head % Size] = byte;
    head_ = static_cast<uint16_t>(head + 1);
    if (byte == 0 || held >= Size / 2) due_ = 1;
  }
  uint32_t take(uint8_t* out, uint32_t max) {  // main loop
    uint32_t n = 0;
    due_ = 0;  // first: what comes from here on says it again
    uint16_t tail = tail_;
    for (; n < max && tail != head_; ++tail) out[n++] = bytes_[tail % Size];
    tail_ = tail;
    return n;
  }
  // A frame has ended, or the ring is half full: the main loop has something to do.
  [[nodiscard]] bool due() const { return due_ != 0; }
  [[nodiscard]] bool empty() const { return head_ == tail_; }
  [[gnu::always_inline]] void count_lost() {  // interrupt
    if (dropped_ != UINT16_MAX) dropped_ = static_cast<uint16_t>(dropped_ + 1);
  }
  [[nodiscard]] uint32_t dropped() const { return dropped_; }

 private:
  volatile uint8_t bytes_[Size];           // volatile: stored before head_ moves on
  volatile uint16_t head_ = 0, tail_ = 0;  // of all bytes so far, wrapping
  volatile uint16_t dropped_ = 0;          // at most 65,535 are counted
  volatile uint8_t due_ = 0;
};

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_COMMON_RECEIVE_RING_H_
