// Layers whose weights are trained in part: some output channels, or a low-rank sum B A on all of
// them (LoRA: Hu and others, 2021), rounded into the int8 weights. Units and steps:
// docs/SPEC.md, 1.4.
#ifndef KILOTUNE_KERNEL_OPS_ADAPTED_H_
#define KILOTUNE_KERNEL_OPS_ADAPTED_H_

#include <cstdint>

#include "kernel/ops/window.h"

namespace kilotune {

constexpr uint32_t kAdaptationBytes = 16;
constexpr uint16_t kNoSlot = 0xFFFFu;    // a channel whose weights are not trained
constexpr uint32_t kAdaptationWord = 4;  // image offset of the adaptation entry
constexpr uint32_t kAdaptedBlock = 4;    // rows of weights that are made at a time
constexpr uint32_t kMaxRank = 8;
// Low-rank factors: weight(o, i) + round(sum over k of B(o, k) A(k, i) / 2^20). A sum of kMaxRank
// products with |A| <= kFactorMax, |B| < 2^15 and the rounding's half stays in int32.
constexpr int kFactorBits = 20;
constexpr int32_t kFactorMax = 8159;
constexpr int32_t kFactorStart = 32;  // times an i8 of the image: where A starts

// How a layer is adapted, read where it lies.
struct Adaptation {
  const uint8_t* at;

  [[nodiscard]] uint32_t rank() const { return load_u16(at); }
  [[nodiscard]] uint32_t channels() const { return load_u16(at + 2); }
  [[nodiscard]] uint32_t table() const { return load_u32(at + 4); }  // image offset
  [[nodiscard]] Real factor_step() const { return load_real(at + 8); }
};

// Words 0 to 3 of an adapted layer are its window, all 0 where that is the whole input.
Window adapted_window(const Op& op, const Tensor& x, const Tensor& y);

// Effective weights (out, fan_in) of an adapted layer.
class AdaptedWeights {
 public:
  AdaptedWeights(const Model& model, const Op& op, uint32_t out, uint32_t fan_in);

  [[nodiscard]] uint32_t rank() const { return rank_; }
  [[nodiscard]] uint32_t trained_channels() const { return channels_; }
  [[nodiscard]] uint32_t count() const {
    return rank_ == 0 ? channels_ * fan_in_ : rank_ * (fan_in_ + out_);
  }
  // Which of the trained channels o is, kNoSlot: none.
  [[nodiscard]] uint32_t slot(uint32_t o) const { return load_u16(table_ + 2 * o); }
  [[nodiscard]] bool trained(uint32_t o) const { return rank_ != 0 || slot(o) != kNoSlot; }
  [[nodiscard]] const int8_t* base(uint32_t o) const { return base_ + o * fan_in_; }
  // Where A starts, (rank, fan_in), in kFactorStart.
  [[nodiscard]] const int8_t* start() const { return reinterpret_cast<const int8_t*>(table_); }
  // A's step for a gradient of 1 (SPEC 1.4).
  [[nodiscard]] Real factor_step() const { return entry_.factor_step(); }

  // Weights first to first + n of channel o, from the trained `values`; returns their sum.
  int32_t fill(const int16_t* values, uint32_t o, uint32_t first, uint32_t n, int8_t* to) const;

 private:
  Adaptation entry_;
  const uint8_t* table_;
  const int8_t* base_;
  uint32_t out_, fan_in_, rank_, channels_;
};

// Everything that one pass reads.
struct AdaptedLayer {
  AdaptedLayer(const Model& model, const Op& op)
      : x(model.tensor(op.input)),
        y(model.tensor(op.output)),
        window(adapted_window(op, x, y)),
        whole(op.words[0] == 0),
        fan_in(static_cast<uint32_t>(window.taps()) * x.channels),
        weights(model, op, y.channels, fan_in) {}

  [[nodiscard]] bool patched() const { return !window.pointwise() && !whole; }
  [[nodiscard]] uint64_t forward_scratch_bytes() const {
    return whole ? 0 : (kAdaptedBlock + (patched() ? 1u : 0u)) * uint64_t{fan_in};
  }

  Tensor x, y;
  Window window;
  bool whole;  // a vector: the one output position reads all of the input
  uint32_t fan_in;
  AdaptedWeights weights;
};

extern const TrainedWeights kAdaptedWeights;

// Bytes that the backward pass needs: what is propagated to the input, then the trained weights.
uint64_t adapted_scratch_bytes(const Model& model, const Op& op);

// Updates the trained weights from the input and the output's gradient, which it does not change.
void update_adapted(const Execution& run, const Op& op, Step& step);

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_OPS_ADAPTED_H_
