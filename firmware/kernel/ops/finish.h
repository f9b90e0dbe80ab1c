// From accumulators to int8 outputs: requantisation, clamping, and the pass mask.
#ifndef KILOTUNE_KERNEL_OPS_FINISH_H_
#define KILOTUNE_KERNEL_OPS_FINISH_H_

#include <cstdint>

#include "kernel/ops/op.h"

namespace kilotune {

// Scales that shift right by no more than this leave room to add the zero point before the shift:
// there it stays below 2^28, and the product below 2^30.
constexpr int kShortShift = 21;
inline bool shifts_short(int shift) {
  return static_cast<uint32_t>(-shift - 1) < static_cast<uint32_t>(kShortShift);
}

// One layer's outputs, channel after channel.
struct Finish {
  int8_t* y;
  uint8_t* mask;  // null: not recorded
  const uint8_t* multipliers;
  const int8_t* shifts;
  uint32_t stride;  // 1: one multiplier per channel, 0: one for all
  int32_t zero_point, low, high;
  bool short_shifts;  // every channel's scale shifts right by 1 to kShortShift
  uint32_t bits = 0;  // of the mask's unfinished byte

  // Output o from its accumulator. Out of line: the SIMD kernels have faster ways for most layers.
  void put(uint32_t o, int32_t acc);
  // After the last of `out` channels: the mask's unfinished byte.
  void flush(uint32_t out) const {
    if (mask != nullptr && (out & 7u) != 0)
      mask[out >> 3] = static_cast<uint8_t>((bits & 0xFFu) >> (8 - (out & 7u)));
  }
  // After flush(): to the next position.
  void next(uint32_t out) {
    y += out;
    if (mask != nullptr) mask += (out + 7) / 8;
  }
};

bool all_shifts_short(const int8_t* shifts, uint32_t n);

inline Finish make_finish(const Execution& run, const Op& op, const Tensor& yt, bool training) {
  const int8_t* shifts = reinterpret_cast<const int8_t*>(run.model->at(op.shifts));
  const bool per_channel = op.has(kPerChannel);
  return {run.data(yt),
          run.recorded_mask(op, yt, training),
          aligned4(run.model->at(op.multipliers)),
          shifts,
          per_channel ? 1u : 0u,
          yt.zero_point,
          op.act_min,
          op.act_max,
          per_channel ? all_shifts_short(shifts, yt.channels) : shifts_short(*shifts)};
}

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_FINISH_H_
