// The sample window: a ring of frames that is complete every `hop` samples.
#ifndef KILOTUNE_RUNTIME_SIGNAL_WINDOW_H_
#define KILOTUNE_RUNTIME_SIGNAL_WINDOW_H_

#include <cstdint>

namespace kilotune {

constexpr uint32_t kMaxAxes = 4;  // of a model; one bit each in WindowHealth

// Signs of a broken sensor in one complete window.
struct WindowHealth {
  uint32_t clipped;      // samples at the end of the range: 32767, -32767 or -32768
  uint8_t constant;      // bit a = axis a never changed
  uint8_t flattened;     // bit a = axis a looks cut off, wherever the sensor's range may end
  uint32_t frozen;       // longest run of frames equal to the one before
  uint32_t fingerprint;  // of all samples, oldest first: equal for equal windows
};

// What one pass over the samples of an axis finds, for the gate and for the features.
struct AxisRange {
  int32_t sum, low, high;    // the sum is at most 2^26
  uint32_t at_low, at_high;  // samples of that value
};

// Of `n` >= 1 samples that are `stride` apart.
[[nodiscard]] AxisRange range_of(const int16_t* samples, uint32_t n, uint32_t stride);

class Window {
 public:
  // Memory that `open` needs, 2-aligned.
  [[nodiscard]] static uint32_t bytes(uint32_t window, uint32_t axes) { return window * axes * 2; }

  // `memory` is the caller's and must live as long as the window; axes 1 to kMaxAxes.
  void open(int16_t* memory, uint16_t window, uint16_t hop, uint8_t axes);
  void reset();  // forgets all samples
  // The next frame does not follow the last one: windows start over, old frames can still be read.
  void gap() { until_ = window_; }

  // Takes frames of `axes` samples, of `n` >= 1 as many as complete a window: after `window`
  // frames, then every `hop`. Returns how many; `complete` says whether they did. Not for
  // interrupts: a port collects samples in its own queue.
  uint32_t take(const uint8_t* frames, uint32_t n, bool& complete);

  // Of the complete window, valid until more is taken.
  [[nodiscard]] const int16_t* ring() const { return ring_; }  // (window, axes)
  [[nodiscard]] uint32_t first() const { return next_; }       // frame index of the oldest sample
  // `ranges`: those of all axes are written there.
  [[nodiscard]] WindowHealth health(AxisRange ranges[kMaxAxes]) const;

  // Frames since reset; the last `window` of them are here, by index from 0.
  [[nodiscard]] uint32_t pushed() const { return pushed_; }
  [[nodiscard]] const int16_t* frame(uint32_t index) const;

 private:
  void follow(WindowHealth& health) const;
  [[nodiscard]] bool flattened(uint32_t axis, const AxisRange& range) const;

  int16_t* ring_ = nullptr;
  uint16_t window_ = 0;
  uint16_t hop_ = 0;
  uint16_t next_ = 0;   // where the next frame goes: the oldest one, once full
  uint16_t until_ = 0;  // frames until a window is complete
  uint32_t pushed_ = 0;
  uint8_t axes_ = 0;
};

}  // namespace kilotune

#endif  // KILOTUNE_RUNTIME_SIGNAL_WINDOW_H_
