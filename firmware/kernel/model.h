// A model image, validated once and then read in place. Format: docs/SPEC.md, section 1.
#ifndef KILOTUNE_KERNEL_MODEL_H_
#define KILOTUNE_KERNEL_MODEL_H_

#include <cstdint>

#include "kernel/bytes.h"
#include "kernel/fixed_point.h"
#include "kernel/status.h"

namespace kilotune {

constexpr uint32_t kNone = 0xFFFFFFFFu;        // an absent offset
constexpr uint16_t kNoTensor = 0xFFFFu;        // an absent tensor
constexpr uint32_t kImageMagic = 0x314D544Bu;  // "KTM1"
constexpr uint32_t kHeaderBytes = 128;
constexpr uint32_t kTensorBytes = 32;
constexpr uint32_t kOpBytes = 64;
constexpr uint32_t kOpTrainingBytes = 40;
constexpr uint32_t kTrainingBytes = 40;
constexpr uint32_t kRerunBytes = 4;
constexpr uint32_t kHashBytes = 32;
// Fields of the header that are read before there is a model of it; the CRC is of all from the
// image hash on.
constexpr uint32_t kImageBytesAt = 8, kImageCrcAt = 12, kImageHashAt = 16, kBaseHashAt = 48;
constexpr uint32_t kMaxRamBytes = 1u << 28;  // of arena, adapter and state each
// Accumulators stay below this, as requantisation needs on every core: products, bias and what
// training adds to it (check_layer).
constexpr int32_t kAccumulatorMax = 3 << 29;
// A product of two int8 is at most 2^14. No op may have more of them per output than this; products
// with an input less its zero point count twice.
constexpr uint32_t kMaxFanIn = 65535;

// Range of a trained bias, in its fraction bits, and of a trained weight (the high byte counts).
constexpr int32_t kBiasDeltaMax = (1 << 30) - 1;
constexpr int32_t kWeightParamMax = 127 * 256 + 255, kWeightParamMin = -127 * 256;

struct Tensor {
  uint32_t data;  // arena offset of int8 (height, width, channels)
  uint16_t height, width, channels;
  int8_t zero_point;
  uint8_t mantissa_bits;  // 0: no gradient
  uint32_t gradient;      // arena offset, kNone: no gradient
  uint32_t mask;          // arena offset, kNone: passes everywhere

  [[nodiscard]] uint32_t positions() const { return uint32_t{height} * width; }
  [[nodiscard]] uint32_t elements() const { return positions() * channels; }
};

enum OpFlag : uint8_t {
  kBiasTrained = 1,
  kWeightsTrained = 2,
  kPerChannel = 4,
  kRecordsMask = 8,
  kBackwardToInput = 16,
  kAddsToInput = 32,  // the input's gradient already holds what another op sent
  kBackwardToInput2 = 64,
  kAddsToInput2 = 128,
};

// The last six words of an op's entry, read where they lie.
struct Words {
  const uint8_t* at;

  [[nodiscard]] uint32_t operator[](uint32_t i) const { return load_u32(at + 4 * i); }
};

struct Op {
  uint8_t opcode;
  uint8_t flags;
  uint16_t input, input2, output;
  int8_t act_min, act_max;
  uint32_t weights, bias, multipliers, shifts;  // image offsets
  uint32_t bias_param, weight_param;            // adapter offsets, kNone
  uint32_t training;                            // image offset of the training entry, 0
  Words words;                                  // by opcode

  [[nodiscard]] bool has(OpFlag flag) const { return (flags & flag) != 0; }
};

struct OpTraining {
  uint32_t kb;       // image offset of Real[1 or channels]
  Real kw_ratio;     // KW = KB * kw_ratio
  uint32_t rescale;  // image offset of u16 R[channels], 0: per-tensor weights
  uint8_t bias_fraction_bits;
  uint32_t bias_state, weight_state;  // optimiser state offsets, kNone
  uint32_t scratch;                   // arena offset of what only the backward pass needs, kNone
  Real factor, factor2;               // of the inputs' gradients; mantissa 0: 2^exponent
  uint32_t unit_bits;                 // C of the output's gradient, as the bits of a float32
};

enum class Loss : uint8_t { reconstruction = 1, regression = 2, cross_entropy = 3 };

struct Training {
  Loss loss;
  uint8_t method;
  uint16_t first_op, last_op;  // backward runs from first_op down to last_op
  uint16_t tensor;             // whose gradient the loss gives
  int32_t a, b;                // mean squared error
  uint32_t exp_table;          // cross-entropy: image offset of u32[256]
  uint16_t classes;
  bool adam;  // the optimiser state is Adam's
  // Ops that run forward again during the backward pass: image offset of {u16 op before whose
  // backward pass, u16 op that runs again}, and how many.
  uint32_t reruns, rerun_count;
};

struct OpKernel;

// What a device can execute: null-terminated, provided by the application, so that a firmware links
// only the operators that it lists.
using OpTable = const OpKernel* const*;

class Model {
 public:
  Model() = default;
  // Trainers keep its address, and what they have checked.
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // Validates every field of `image` (at a multiple of 4: bad_argument; stays mapped as long as the
  // model is used). Reads the whole image once. Where it refuses, the model stays closed: only
  // is_open() may be asked. wrong_state: it is open, and trainers rely on it; another image needs a
  // model of its own.
  [[nodiscard]] Status open(const uint8_t* image, uint32_t bytes, OpTable ops);
  [[nodiscard]] bool is_open() const { return image_.data != nullptr; }

  [[nodiscard]] const uint8_t* at(uint32_t offset) const { return image_.data + offset; }
  [[nodiscard]] const Bytes& image() const { return image_; }
  [[nodiscard]] const uint8_t* image_hash() const { return at(kImageHashAt); }
  [[nodiscard]] const uint8_t* base_hash() const { return at(kBaseHashAt); }
  [[nodiscard]] Tensor tensor(uint16_t index) const;
  // A tensor's scale, as the bits of a float32.
  [[nodiscard]] uint32_t scale_bits(uint16_t index) const {
    return load_u32(at(tensors_) + kTensorBytes * index + 12);
  }
  [[nodiscard]] Op op(uint16_t index) const;
  [[nodiscard]] OpTraining op_training(const Op& op) const;
  // The one field of it that scoring needs.
  [[nodiscard]] uint8_t bias_fraction_bits(const Op& op) const { return at(op.training)[12]; }
  [[nodiscard]] const OpKernel* kernel(uint8_t opcode) const;
  // Whether a tensor's gradient has room for `each` bytes per element; 2 are for mantissas.
  [[nodiscard]] bool holds_gradient(const Tensor& t, uint32_t each) const;
  [[nodiscard]] bool trainable() const { return training_offset_ != 0; }
  [[nodiscard]] Training training() const {
    Training t;
    read(t);
    return t;
  }
  void read(Training& out) const;  // the same, without a copy

  uint16_t tensor_count = 0, op_count = 0, input = 0, output = 0;
  uint32_t features = 0, profile = 0;  // image offsets, 0: none
  uint32_t arena_bytes = 0, adapter_bytes = 0, state_bytes = 0;

 private:
  [[nodiscard]] Status check_header(uint32_t bytes);
  [[nodiscard]] Status check_sections() const;
  [[nodiscard]] Status check_tensors() const;
  [[nodiscard]] Status check_ops() const;
  [[nodiscard]] Status check_training() const;
  [[nodiscard]] Status check_reruns(const Training& t) const;

  Bytes image_;
  OpTable ops_ = nullptr;
  uint32_t tensors_ = 0, op_entries_ = 0, training_offset_ = 0;
};

// Whether a planned constant of an image is one; a factor may be a power of two without a mantissa.
[[nodiscard]] bool real_valid(Real r);
[[nodiscard]] bool factor_valid(Real r);

// Reads a Real from a planned table; mantissas were validated.
inline Real load_real(const uint8_t* p) { return {load_u16(p), load_i16(p + 2)}; }

// Inline, so that a caller reads only the fields that it uses.
inline Tensor Model::tensor(uint16_t index) const {
  const uint8_t* p = aligned4(at(tensors_)) + kTensorBytes * index;
  return {
      load_u32(p), load_u16(p + 4),  load_u16(p + 6), load_u16(p + 8), static_cast<int8_t>(p[10]),
      p[11],       load_u32(p + 16), load_u32(p + 20)};
}

inline Op Model::op(uint16_t index) const {
  const uint8_t* p = aligned4(at(op_entries_)) + kOpBytes * index;
  return {p[0],
          p[1],
          load_u16(p + 2),
          load_u16(p + 4),
          load_u16(p + 6),
          static_cast<int8_t>(p[8]),
          static_cast<int8_t>(p[9]),
          load_u32(p + 12),
          load_u32(p + 16),
          load_u32(p + 20),
          load_u32(p + 24),
          load_u32(p + 28),
          load_u32(p + 32),
          load_u32(p + 36),
          {p + 40}};
}

inline OpTraining Model::op_training(const Op& op) const {
  const uint8_t* p = aligned4(at(op.training));
  return {load_u32(p),       load_real(p + 4), load_u32(p + 8),  p[12],
          load_u32(p + 20),  load_u32(p + 24), load_u32(p + 28), load_real(p + 32),
          load_real(p + 36), load_u32(p + 16)};
}

}  // namespace kilotune

#endif  // KILOTUNE_KERNEL_MODEL_H_
