// Four outputs at a time, from accumulators to int8 and pass mask, with the instructions of
// Cortex-M4, M7 and M33.
#ifndef KILOTUNE_KERNEL_OPS_FOURS_DSP_H_
#define KILOTUNE_KERNEL_OPS_FOURS_DSP_H_

#include "kernel/ops/dense.h"
#include "kernel/ops/dsp.h"

namespace kilotune {

struct Four {
  int32_t a, b, c, d;
};

// Outputs of a layer whose scales shift right by 1 to kShortShift: four at a time, int8 saturation
// and mask included. (2 acc m + 2^31) >> 32 is the doubling high multiply.
class FinishFours {
 public:
  explicit FinishFours(const Finish& f)
      : multiplier_(load_i32(f.multipliers)),
        right_(-f.shifts[0]),
        zero_point_(f.zero_point),
        offset_(shift_left(1, static_cast<uint32_t>(right_ - 1)) +
                shift_left(f.zero_point, static_cast<uint32_t>(right_))),
        low_(f.low),
        high_(f.high),
        narrow_(f.low != -128 || f.high != 127),
        test_(f.low, f.high) {}
  // With one scale for all.
  [[nodiscard]] uint32_t pack(const Four& s) const {
    return packed(output(s.a), output(s.b), output(s.c), output(s.d));
  }
  // With one for each channel: `multipliers` and `shifts` of these four.
  [[nodiscard]] uint32_t pack(const Four& s, const uint8_t* multipliers,
                              const int8_t* shifts) const {
    Four m;
    std::memcpy(&m, aligned4(multipliers), sizeof m);
    const uint32_t n = ~word(shifts);  // right - 1 of each, in bytes
    return packed(output(s.a, m.a, n), output(s.b, m.b, n >> 8), output(s.c, m.c, n >> 16),
                  output(s.d, m.d, n >> 24));
  }
  // With either (`stride` 0: one for all), one after the other.
  [[nodiscard]] uint32_t pack_in_turn(const Four& s, const uint8_t* multipliers,
                                      const int8_t* shifts, uint32_t stride) const {
    const int32_t sums[4] = {s.a, s.b, s.c, s.d};
    uint32_t packed = 0;
    for (const int32_t sum : sums) {
      const uint32_t n = static_cast<uint32_t>(~*shifts);
      const int32_t q = clamp(output(sum, load_i32(multipliers), n), low_, high_);
      packed = packed >> 8 | static_cast<uint32_t>(q) << 24;
      multipliers += 4 * stride;
      shifts += stride;
    }
    return packed;
  }
  // Bit k: output k of `packed` lies strictly between the ends of the activation.
  [[nodiscard]] uint32_t passes(uint32_t packed) const { return test_.passes(packed); }

 private:
  [[nodiscard]] uint32_t packed(int32_t a, int32_t b, int32_t c, int32_t d) const {
    if (narrow_) {
      a = clamp(a, low_, high_);
      b = clamp(b, low_, high_);
      c = clamp(c, low_, high_);
      d = clamp(d, low_, high_);
    }
    const auto byte = [](int32_t q) { return static_cast<uint32_t>(q) & 0xFFu; };
    return byte(a) | byte(b) << 8 | byte(c) << 16 | byte(d) << 24;
  }
  [[nodiscard]] int32_t output(int32_t acc) const {
    const int32_t high = high_multiply_rounded(twice(acc), multiplier_);
    return __ssat((high + (high >> 31) + offset_) >> right_, 8);
  }
  [[nodiscard]] int32_t output(int32_t acc, int32_t multiplier, uint32_t n) const {
    const int32_t high = high_multiply_rounded(twice(acc), multiplier);
    const int32_t doubled = shift_right(high + (high >> 31) + shift_left(1, n), n);
    return __ssat((doubled >> 1) + zero_point_, 8);
  }

  int32_t multiplier_;
  int right_;
  int32_t zero_point_, offset_, low_, high_;
  bool narrow_;
  PassTest test_;
};

// Writes the outputs of one position, four at a time; any scale.
class FourWriter {
 public:
  explicit FourWriter(Finish& finish)
      : finish_(finish),
        way_(!finish.short_shifts ? Way::any
             : finish.stride == 0 ? Way::one_scale
                                  : Way::scales),
        fours_(finish),
        y_(finish.y),
        mask_(finish.mask) {}
  // Outputs o to o + 4, o a multiple of 4.
  void put(uint32_t o, const Four& sums) {
    uint32_t packed = 0;
    if (kSmallCode && way_ != Way::any) {
      const uint32_t at = o * finish_.stride;
      packed = fours_.pack_in_turn(sums, finish_.multipliers + 4 * at, finish_.shifts + at,
                                   finish_.stride);
    } else if (way_ == Way::one_scale) {
      packed = fours_.pack(sums);
    } else if (way_ == Way::scales) {
      packed = fours_.pack(sums, finish_.multipliers + 4 * o, finish_.shifts + o);
    } else {
      return put_each(o, sums);
    }
    std::memcpy(y_ + o, &packed, sizeof packed);
    if (mask_ == nullptr) return;
    bits_ = (bits_ >> 4) | fours_.passes(packed) << 4;
    mask_[o >> 3] = static_cast<uint8_t>(bits_);  // the second half overwrites the first
  }
  // Before single outputs follow.
  void end() const {
    if (way_ != Way::any) finish_.bits = bits_;
  }

 private:
  enum class Way : uint32_t { one_scale, scales, any };

  void put_each(uint32_t o, const Four& sums) {
    finish_.put(o, sums.a);
    finish_.put(o + 1, sums.b);
    finish_.put(o + 2, sums.c);
    finish_.put(o + 3, sums.d);
  }

  Finish& finish_;
  const Way way_;
  FinishFours fours_;
  int8_t* const y_;
  uint8_t* const mask_;
  uint32_t bits_ = 0;
};

// Where the accumulators of outputs o to o + 4 start.
inline Four start(const DenseBias& bias, uint32_t o) {
  const int32_t* b = reinterpret_cast<const int32_t*>(bias.frozen) + o;
  Four sums = {b[0], b[1], b[2], b[3]};
  if (bias.delta == nullptr) return sums;
  const int32_t* d = bias.delta + o;
  const int shift = bias.shift, half = 1 << (shift - 1);
  sums.a += (d[0] + half) >> shift;
  sums.b += (d[1] + half) >> shift;
  sums.c += (d[2] + half) >> shift;
  sums.d += (d[3] + half) >> shift;
  return sums;
}

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_FOURS_DSP_H_
