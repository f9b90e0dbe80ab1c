// Running means of features over the last windows: where the machine is heading.
#ifndef KILOTUNE_RUNTIME_LEARN_TREND_H_
#define KILOTUNE_RUNTIME_LEARN_TREND_H_

#include <cstdint>

namespace kilotune {

class Trend {
 public:
  // `means` (features,) is the caller's and must live as long; null: nothing is followed.
  void open(int16_t* means) { means_ = means; }
  // Each window has a weight of 1/`memory` from the memory-th on, an equal one before.
  void begin(uint32_t memory) {
    memory_ = memory;
    windows_ = 0;
  }
  [[nodiscard]] bool active() const { return means_ != nullptr; }
  // One more window follows, feature by feature.
  void next() { ++windows_; }
  void add(uint32_t feature, int16_t value) {
    const int32_t count = static_cast<int32_t>(windows_ < memory_ ? windows_ : memory_);
    const int32_t before = windows_ <= 1 ? 0 : means_[feature];
    const int32_t step = value - before;
    means_[feature] =
        static_cast<int16_t>(before + (step + (step >= 0 ? count : -count) / 2) / count);
  }
  [[nodiscard]] uint32_t windows() const { return windows_; }
  [[nodiscard]] int32_t mean(uint32_t feature) const { return means_[feature]; }

 private:
  int16_t* means_ = nullptr;
  uint32_t windows_ = 0, memory_ = 1;
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_LEARN_TREND_H_
