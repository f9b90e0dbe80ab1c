#include "receiver.h"

#include <chrono>
#include <thread>

namespace kilotune::board {

void Receiver::start(Line& line) {
  std::thread([this, &line] { run(line); }).detach();
}

void Receiver::run(Line& line) {
  uint8_t bytes[256];
  for (;;) {
    const uint32_t n = line.read(bytes, sizeof bytes);
    if (n == 0) {
      line.wait(-1);
    } else {
      put(bytes, n);
    }
  }
}

void Receiver::put(const uint8_t* data, uint32_t n) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (uint32_t i = 0; i < n; ++i) {
    if (!stalled_) {
      ring_.put(data[i]);
    } else if (queue_left_ > 0) {
      --queue_left_;
      ring_.put(data[i]);
    } else {
      ring_.count_lost();
    }
  }
  arrived_.notify_one();
}

uint32_t Receiver::take(uint8_t* out, uint32_t max) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return ring_.take(out, max);
}

void Receiver::wait(int timeout_ms) {
  std::unique_lock<std::mutex> lock(mutex_);
  arrived_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [this] { return !ring_.empty(); });
}

uint32_t Receiver::dropped() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return ring_.dropped();
}

void Receiver::stall(uint32_t queue_bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  stalled_ = true;
  queue_left_ = queue_bytes;
}

void Receiver::resume() {
  const std::lock_guard<std::mutex> lock(mutex_);
  stalled_ = false;
}

}  // namespace kilotune::board
