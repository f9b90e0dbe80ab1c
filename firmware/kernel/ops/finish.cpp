// From accumulators to int8 outputs, one at a time.
#include "kernel/ops/finish.h"

namespace kilotune {

Finish make_finish(const Execution& run, const Op& op, const Tensor& yt, bool training) {
  const int8_t* shifts = reinterpret_cast<const int8_t*>(run.model->at(op.shifts));
  const uint32_t scales = op.has(kPerChannel) ? yt.channels : 1;
  bool short_shifts = true;
  for (uint32_t o = 0; o < scales; ++o) short_shifts = short_shifts && shifts_short(shifts[o]);
  return {run.data(yt),
          training && op.has(kRecordsMask) ? run.mask(yt) : nullptr,
          aligned4(run.model->at(op.multipliers)),
          shifts,
          op.has(kPerChannel) ? 1u : 0u,
          yt.zero_point,
          op.act_min,
          op.act_max,
          short_shifts};
}

void Finish::put(uint32_t o, int32_t acc) {
  const int32_t scaled =
      requantise(acc, load_i32(multipliers + 4 * o * stride), shifts[o * stride]);
  // |scaled| < 2^31 - 2^7 for a right shift; a left shift may saturate.
  const int32_t q = clamp(clamp(scaled, -512, 512) + zero_point, low, high);
  y[o] = static_cast<int8_t>(q);
  if (mask == nullptr) return;
  bits = (bits >> 1) | (q > low && q < high ? 0x80u : 0u);
  if ((o & 7u) == 7u) mask[o >> 3] = static_cast<uint8_t>(bits);
}

}  // namespace kilotune
