// The receive interrupt of the native board: a thread that takes bytes off the line as they arrive
// and puts them into a ring of the size that the device reports. What does not fit is lost, as on a
// chip.
#ifndef KILOTUNE_BOARDS_NATIVE_RECEIVER_H_
#define KILOTUNE_BOARDS_NATIVE_RECEIVER_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "boards/common/receive_ring.h"
#include "line.h"

namespace kilotune::board {

class Receiver {
 public:
  static constexpr uint32_t kCapacity = KILOTUNE_RECEIVE_RING;

  // Runs until the process ends; from now on only the thread reads `line`.
  void start(Line& line);

  uint32_t take(uint8_t* out, uint32_t max);
  // Waits until there is something to take, at most `timeout_ms`.
  void wait(int timeout_ms);
  [[nodiscard]] uint32_t dropped();

  // While interrupts cannot run, the first `queue_bytes` that arrive wait in hardware.
  void stall(uint32_t queue_bytes);
  void resume();

 private:
  [[noreturn]] void run(Line& line);
  void put(const uint8_t* data, uint32_t n);

  std::mutex mutex_;  // of all below
  std::condition_variable arrived_;
  ReceiveRing<kCapacity> ring_;
  bool stalled_ = false;
  uint32_t queue_left_ = 0;
};

}  // namespace kilotune::board

#endif  // KILOTUNE_BOARDS_NATIVE_RECEIVER_H_
