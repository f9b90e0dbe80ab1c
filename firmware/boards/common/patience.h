// How long `write` waits for a line that takes no bytes: board.h's kLongestRefusalMs, once.
#ifndef KILOTUNE_BOARDS_COMMON_PATIENCE_H_
#define KILOTUNE_BOARDS_COMMON_PATIENCE_H_

#include <cstdint>

#include "boards/board.h"

namespace kilotune::board {

// Waiting uses it up, bytes that are taken bring it back: a line at any baud rate never uses it up,
// a host that hardly reads cannot hold up the main loop either.
class Patience {
 public:
  [[nodiscard]] bool lasts(uint32_t waited_ms) const { return waited_ms < left_ms(); }
  [[nodiscard]] uint32_t left_ms() const { return kLongestRefusalMs - used_ms_; }
  void refused() { used_ms_ = kLongestRefusalMs; }
  // `waited_ms` below left_ms(), for room for `bytes`.
  void taken(uint32_t waited_ms, uint32_t bytes) {
    constexpr uint32_t kByteMs = 2;  // twice what one takes at 9,600 baud
    used_ms_ += waited_ms;
    used_ms_ -= used_ms_ < kByteMs * bytes ? used_ms_ : kByteMs * bytes;
  }

 private:
  uint32_t used_ms_ = 0;
};

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_COMMON_PATIENCE_H_
