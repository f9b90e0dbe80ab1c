// A dense layer at every position of a convolution: one header, one plain and one SIMD
// implementation with the same bits.
#ifndef KILOTUNE_KERNEL_OPS_POSITIONS_H_
#define KILOTUNE_KERNEL_OPS_POSITIONS_H_

#include <cstdint>
#include <cstring>

#include "kernel/ops/dense.h"
#include "kernel/ops/window.h"

namespace kilotune {

// The inputs of one position after another: where they lie, or gathered in `patch`.
class Patches {
 public:
  // `overwritten`: outputs may be written over the inputs of their position.
  Patches(const Window& w, const Tensor& xt, const int8_t* x, int8_t* patch, bool overwritten)
      : w_(w),
        xt_(xt),
        x_(x),
        patch_(patch),
        pointwise_(w.pointwise()),
        overwritten_(overwritten) {}
  const int8_t* next() {
    if (pointwise_) {
      const int8_t* here = x_;
      x_ += xt_.channels;
      return here;
    }
    fill_patch(w_, xt_, x_, row_, column_, patch_);
    if (++column_ == w_.x.out) {
      column_ = 0;
      ++row_;
    }
    return patch_;
  }
  // As next(), but in `scratch` where it would be overwritten: for callers that write as they read.
  const int8_t* next_apart(uint8_t* scratch) {
    const int8_t* x = next();
    if (!pointwise_ || !overwritten_) return x;
    std::memmove(scratch, x, xt_.channels);  // in an image the two may overlap
    return reinterpret_cast<const int8_t*>(scratch);
  }

 private:
  const Window& w_;
  const Tensor& xt_;
  const int8_t* x_;
  int8_t* patch_;
  bool pointwise_, overwritten_;
  int32_t row_ = 0, column_ = 0;
};

// Bytes in front of the patch that dense_positions works in: two positions' inputs as int16.
inline uint64_t spread_bytes(uint64_t fan_in) { return (fan_in + 3) / 4 * 16; }

// Outputs of frozen weights w (out, in) at each of the positions, in their order.
void dense_positions(const int8_t* w, Patches& patches, uint32_t positions, uint32_t in,
                     uint32_t out, const DenseBias& bias, Finish& finish, uint8_t* scratch);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_POSITIONS_H_
