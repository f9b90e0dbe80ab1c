// Builds a model image of one dense layer in memory, as SPEC 1 says, for the tests: small enough to
// be written by hand, so that they need no compiler of models.
#ifndef KILOTUNE_TESTS_KERNEL_DENSE_IMAGE_H_
#define KILOTUNE_TESTS_KERNEL_DENSE_IMAGE_H_

#include <cstdint>
#include <cstring>
#include <vector>

#include "feature_section.h"
#include "kernel/bytes.h"
#include "kernel/model.h"
#include "runtime/learn/adapter_view.h"

namespace kilotune_test {

enum class Optimiser { plain, momentum, adam };

struct DenseSpec {
  kilotune::Loss loss = kilotune::Loss::reconstruction;
  bool trains = true;
  bool weights = false;  // trained, too
  Optimiser optimiser = Optimiser::plain;
  uint16_t inputs = 4, outputs = 4;
  // Windows in the reservoir; 0: the model takes ready inputs, else one band each of one axis.
  uint8_t windows = 0, early = 0;
};

class DenseImage {
 public:
  static constexpr uint32_t kFractionBits = 8;

  explicit DenseImage(const DenseSpec& spec) : s_(spec) {
    lay_out();
    words_.assign(end_ / 4, 0);
    header();
    tensor(128, 0, s_.inputs, kilotune::kNone);
    tensor(128 + kilotune::kTensorBytes, align(s_.inputs), s_.outputs,
           s_.trains ? align(s_.inputs) + align(s_.outputs) : kilotune::kNone);
    op();
    if (s_.trains) training();
    layer();
    if (s_.windows != 0) profile();
    seal();
  }

  [[nodiscard]] const uint8_t* data() const {
    return reinterpret_cast<const uint8_t*>(words_.data());
  }
  [[nodiscard]] uint32_t size() const { return end_; }
  [[nodiscard]] uint32_t input_bytes() const { return s_.inputs; }
  [[nodiscard]] uint32_t arena_bytes() const { return kilotune::load_u32(data() + 116); }
  [[nodiscard]] uint32_t adapter_bytes() const { return kilotune::load_u32(data() + 120); }
  [[nodiscard]] uint32_t state_bytes() const { return kilotune::load_u32(data() + 124); }

 private:
  static uint32_t align(uint32_t n) { return (n + 3) & ~3u; }
  uint8_t* at(uint32_t off) { return reinterpret_cast<uint8_t*>(words_.data()) + off; }
  void u8(uint32_t off, uint32_t v) { *at(off) = static_cast<uint8_t>(v); }
  void u16(uint32_t off, uint32_t v) { kilotune::store_u16(at(off), static_cast<uint16_t>(v)); }
  void u32(uint32_t off, uint32_t v) { kilotune::store_u32(at(off), v); }
  void real(uint32_t off, int exponent) {  // 2^(15 + exponent)
    u16(off, 0x8000);
    u16(off + 2, static_cast<uint16_t>(exponent));
  }

  void lay_out() {
    ops_ = 128 + 2 * kilotune::kTensorBytes;
    record_ = ops_ + kilotune::kOpBytes;
    training_ = record_ + kilotune::kOpTrainingBytes;
    weights_ = training_ + kilotune::kTrainingBytes;
    bias_ = weights_ + align(uint32_t{s_.inputs} * s_.outputs);
    scales_ = bias_ + 4u * s_.outputs;  // multiplier, shift, KB
    exponentials_ = scales_ + 12;
    end_ = exponentials_ + (classifies() ? 1024 : 0);
    if (s_.windows == 0) return;
    const uint32_t residuals = classifies() ? 0 : s_.outputs;
    calibration_ = kilotune::AdapterView::bytes(s_.inputs, residuals, s_.windows, s_.early);
    SectionSpec features;
    features.window = features.hop = features.points = 64;
    features.bands = spread_bands(features.points, s_.inputs);
    features_ = build_section(features);
    features_at_ = end_;
    profile_ = features_at_ + size_of(features_) - kSectionOff;
    end_ = profile_ + 64 + 4 * align(2u * s_.inputs);
  }
  [[nodiscard]] bool classifies() const { return s_.loss == kilotune::Loss::cross_entropy; }

  // Bytes of optimiser state for `n` parameters whose momentum takes `each`.
  [[nodiscard]] uint32_t state_of(uint32_t n, uint32_t each) const {
    if (s_.optimiser == Optimiser::plain) return 0;
    return align(n * (s_.optimiser == Optimiser::adam ? 2 : each));
  }

  void header() {
    const uint32_t weights = uint32_t{s_.inputs} * s_.outputs;
    u32(0, kilotune::kImageMagic), u16(4, 2), u16(6, kilotune::kHeaderBytes), u32(8, end_);
    u16(80, 2), u16(82, 1), u16(84, 0), u16(86, 1);
    u32(88, 128), u32(92, ops_), u32(96, s_.trains ? training_ : 0);
    u32(108, end_);
    u32(116, align(s_.inputs) + align(s_.outputs) + 4 + 4u * s_.outputs);
    if (!s_.trains) return;
    u32(120, calibration_ + 4u * s_.outputs + (s_.weights ? align(2 * weights) : 0));
    u32(124, state_of(s_.outputs, 4) + (s_.weights ? state_of(weights, 2) : 0));
  }

  void tensor(uint32_t off, uint32_t data, uint16_t channels, uint32_t gradient) {
    u32(off, data), u16(off + 4, 1), u16(off + 6, 1), u16(off + 8, channels);
    u8(off + 11, gradient == kilotune::kNone ? 0 : 15);
    u32(off + 12, 0x3D800000);  // 1/16
    u32(off + 16, gradient), u32(off + 20, kilotune::kNone);
  }

  void op() {
    u8(ops_, 1), u8(ops_ + 1, s_.trains ? 1u + (s_.weights ? 2u : 0u) : 0u);
    u16(ops_ + 2, 0), u16(ops_ + 4, kilotune::kNoTensor), u16(ops_ + 6, 1);
    u8(ops_ + 8, 0x80), u8(ops_ + 9, 0x7F);
    u32(ops_ + 12, weights_), u32(ops_ + 16, bias_), u32(ops_ + 20, scales_);
    u32(ops_ + 24, scales_ + 4);
    u32(ops_ + 28, s_.trains ? calibration_ : kilotune::kNone);
    u32(ops_ + 32, s_.weights ? calibration_ + 4u * s_.outputs : kilotune::kNone);
    u32(ops_ + 36, s_.trains ? record_ : 0);
  }

  void training() {
    const bool keeps = s_.optimiser != Optimiser::plain;
    u32(record_, scales_ + 8), real(record_ + 4, -15), u8(record_ + 12, kFractionBits);
    u32(record_ + 16, 0x3F800000);  // 1
    u32(record_ + 20, keeps ? 0 : kilotune::kNone);
    u32(record_ + 24, keeps && s_.weights ? state_of(s_.outputs, 4) : kilotune::kNone);
    u32(record_ + 28, kilotune::kNone);
    u8(training_, static_cast<uint32_t>(s_.loss)), u8(training_ + 1, 1);
    u16(training_ + 6, 1);
    u32(training_ + 8, classifies() ? 0 : 1 << 14), u32(training_ + 12, classifies() ? 0 : 1 << 14);
    u16(training_ + 24, classifies() ? s_.outputs : 0);
    u16(training_ + 26, s_.optimiser == Optimiser::adam ? 1 : 0);
    if (!classifies()) return;
    u32(training_ + 16, exponentials_);
    for (uint32_t i = 0; i < 24; ++i) u32(exponentials_ + 4 * i, (1u << 23) >> i);
  }

  void layer() {
    for (uint32_t i = 0; i < uint32_t{s_.inputs} * s_.outputs; ++i) u8(weights_ + i, i * 37 % 23);
    u32(scales_, 1 << 30), u8(scales_ + 4, static_cast<uint8_t>(-5)), real(scales_ + 8, -22);
  }

  void profile() {
    std::memcpy(at(features_at_), bytes_of(features_) + kSectionOff,
                size_of(features_) - kSectionOff);
    for (const uint32_t pointer : {features_at_ + 20, features_at_ + 24})
      u32(pointer, kilotune::load_u32(at(pointer)) + features_at_ - kSectionOff);
    u32(100, features_at_), u32(104, profile_);
    u16(profile_, s_.windows), u16(profile_ + 2, classifies() ? 0 : s_.outputs);
    for (const uint32_t pseudo : {5u, 6u, 7u, 8u}) u8(profile_ + pseudo, 4);
    u8(profile_ + 9, 2), u8(profile_ + 11, s_.early), u32(profile_ + 12, 128 * 16);
    const uint32_t tables = profile_ + 64, each = align(2u * s_.inputs);
    for (uint32_t i = 0; i < 3; ++i) u32(profile_ + 28 + 4 * i, tables + i * each);
    for (uint32_t i = 0; i < s_.inputs; ++i) {
      u16(tables + each + 2 * i, 4096), u16(tables + 2 * each + 2 * i, 64);
    }
  }

  void seal() { u32(12, kilotune::crc32(at(16), end_ - 16)); }

  DenseSpec s_;
  uint32_t ops_ = 0, record_ = 0, training_ = 0, weights_ = 0, bias_ = 0, scales_ = 0;
  uint32_t exponentials_ = 0, calibration_ = 0, features_at_ = 0, profile_ = 0, end_ = 0;
  std::vector<uint32_t> features_;
  std::vector<uint32_t> words_;  // at a multiple of 4
};

}  // namespace kilotune_test

#endif  // KILOTUNE_TESTS_KERNEL_DENSE_IMAGE_H_
