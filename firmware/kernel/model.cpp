// Validates a model image field by field, so that no later code needs to check it again.
#include "kernel/model.h"

#include "kernel/ops/op.h"

namespace kilotune {
namespace {

constexpr uint16_t kVersion = 2;

constexpr Status check(bool good) { return good ? Status::ok : Status::bad_image; }

constexpr uint16_t kHalf = 0x8000u;  // the least mantissa

bool reals_valid(const uint8_t* p, uint32_t count) {
  for (; count > 0; --count, p += 4) {
    Real r;
    std::memcpy(&r, aligned4(p), sizeof r);
    if (!real_valid(r)) return false;
  }
  return true;
}

}  // namespace

bool real_valid(Real r) { return r.mantissa >= kHalf && r.exponent >= -1000 && r.exponent <= 1000; }

bool factor_valid(Real r) { return real_valid({r.is_zero() ? kHalf : r.mantissa, r.exponent}); }

Status Model::open(const uint8_t* image, uint32_t bytes, OpTable ops) {
  if (is_open()) return Status::wrong_state;
  if (bytes < kHeaderBytes) return Status::truncated;
  if (image == nullptr || !is_aligned4(image) || ops == nullptr) return Status::bad_argument;
  image_ = {image, bytes};
  ops_ = ops;
  Status status = check_header(bytes);
  if (status == Status::ok) status = check_sections();
  if (status == Status::ok) status = check_tensors();
  if (status == Status::ok) status = check_ops();
  if (status == Status::ok) status = check_training();
  if (status != Status::ok) image_.data = nullptr;
  return status;
}

Status Model::check_header(uint32_t bytes) {
  const uint8_t* h = image_.data;
  if (load_u32(h) != kImageMagic) return Status::bad_magic;
  if (load_u16(h + 4) != kVersion || load_u16(h + 6) != kHeaderBytes) return Status::bad_version;
  const uint32_t size = load_u32(h + kImageBytesAt);
  if (size > bytes) return Status::truncated;
  if (size < kHeaderBytes || size % 4 != 0) return Status::bad_image;
  image_.size = size;
  if (crc32(h + kImageHashAt, size - kImageHashAt) != load_u32(h + kImageCrcAt))
    return Status::bad_crc;

  tensor_count = load_u16(h + 80);
  op_count = load_u16(h + 82);
  input = load_u16(h + 84);
  output = load_u16(h + 86);
  tensors_ = load_u32(h + 88);
  op_entries_ = load_u32(h + 92);
  training_offset_ = load_u32(h + 96);
  features = load_u32(h + 100);
  profile = load_u32(h + 104);
  arena_bytes = load_u32(h + 116);
  adapter_bytes = load_u32(h + 120);
  state_bytes = load_u32(h + 124);
  return Status::ok;
}

Status Model::check_sections() const {
  const uint8_t* h = image_.data;
  const bool good = image_.holds(tensors_, tensor_count, kTensorBytes) &&
                    image_.holds(op_entries_, op_count, kOpBytes) &&
                    (!trainable() || image_.holds(training_offset_, 1, kTrainingBytes)) &&
                    spans(image_.size, load_u32(h + 108), load_u32(h + 112)) &&
                    input < tensor_count && output < tensor_count && op_count > 0 &&
                    (features == 0) == (profile == 0) && arena_bytes <= kMaxRamBytes &&
                    adapter_bytes <= kMaxRamBytes && state_bytes <= kMaxRamBytes &&
                    (adapter_bytes | state_bytes) % 4 == 0;
  return check(good);
}

// Exponents, then `each` bytes per element.
bool Model::holds_gradient(const Tensor& t, uint32_t each) const {
  const uint64_t bytes = 2ull * ((t.positions() + 1) & ~1u) + uint64_t{each} * t.elements();
  return bytes <= arena_bytes && holds(arena_bytes, t.gradient, static_cast<uint32_t>(bytes), 1);
}

Status Model::check_tensors() const {
  for (uint16_t i = 0; i < tensor_count; ++i) {
    const Tensor t = tensor(i);
    const uint64_t elements = uint64_t{t.positions()} * t.channels;
    if (elements == 0 || elements > arena_bytes) return Status::bad_image;
    if (!spans(arena_bytes, t.data, t.elements())) return Status::bad_image;
    if (t.gradient == kNone) {
      if (t.mantissa_bits != 0) return Status::bad_image;
    } else {
      if (!holds_gradient(t, 2)) return Status::bad_image;
      if (t.mantissa_bits < 1 || t.mantissa_bits > 15) return Status::bad_image;
    }
    if (t.mask != kNone) {
      const uint64_t row = (uint32_t{t.channels} + 7) / 8;
      if (row * t.positions() > arena_bytes) return Status::bad_image;
      if (!spans(arena_bytes, t.mask, static_cast<uint32_t>(row * t.positions())))
        return Status::bad_image;
    }
  }
  return Status::ok;
}

const OpKernel* Model::kernel(uint8_t opcode) const {
  for (OpTable k = ops_; *k != nullptr; ++k) {
    if ((*k)->opcode == opcode) return *k;
  }
  return nullptr;
}

Status Model::check_ops() const {
  const uint32_t bias_state_bytes = trainable() && training().adam ? 2 : 4;
  // Parameters lie in the order of the ops, biases before weights: none shares bytes with another,
  // which has another range.
  uint32_t end = 0;
  for (uint16_t i = 0; i < op_count; ++i) {
    const Op o = op(i);
    const OpKernel* k = kernel(o.opcode);
    if (k == nullptr || k->validate == nullptr) return Status::unsupported_op;
    if (o.input >= tensor_count || o.output >= tensor_count) return Status::bad_image;
    if (o.input2 != kNoTensor && o.input2 >= tensor_count) return Status::bad_image;
    if (o.act_min > o.act_max) return Status::bad_image;
    if (o.training != 0) {
      if (!image_.holds(o.training, 1, kOpTrainingBytes)) return Status::bad_image;
      const OpTraining t = op_training(o);
      const Tensor y = tensor(o.output);
      const uint32_t channels = y.channels;
      const uint32_t scales = o.has(kPerChannel) ? channels : 1;
      if (!image_.holds(t.kb, scales, 4) || !reals_valid(at(t.kb), scales))
        return Status::bad_image;
      if (!real_valid(t.kw_ratio) || !factor_valid(t.factor) || !factor_valid(t.factor2))
        return Status::bad_image;
      if (t.rescale != 0 && !image_.holds(t.rescale, channels, 2)) return Status::bad_image;
      if (t.bias_fraction_bits < 2 || t.bias_fraction_bits > 24) return Status::bad_image;
      if (o.has(kBiasTrained)) {
        if (o.bias_param < end || !holds(adapter_bytes, o.bias_param, channels, 4))
          return Status::bad_image;
        end = o.bias_param + 4 * channels;
      }
      if (t.bias_state != kNone && !holds(state_bytes, t.bias_state, channels, bias_state_bytes))
        return Status::bad_image;
      if ((o.has(kBackwardToInput2) && o.input2 == kNoTensor) ||
          (o.has(kBackwardToInput) && tensor(o.input).gradient == kNone) ||
          (o.has(kBackwardToInput2) && tensor(o.input2).gradient == kNone) || y.gradient == kNone)
        return Status::bad_image;
    } else if (o.has(kBiasTrained) || o.has(kWeightsTrained) || o.has(kBackwardToInput) ||
               o.has(kBackwardToInput2)) {
      return Status::bad_image;
    }
    KILOTUNE_TRY(k->validate(*this, o));
    if (o.has(kWeightsTrained)) {
      if (k->weights == nullptr) return Status::bad_image;
      const uint32_t count = k->weights->count(*this, o);
      const uint32_t own = op_training(o).weight_state;
      if (o.weight_param < end || !holds(adapter_bytes, o.weight_param, count, 2))
        return Status::bad_image;
      end = o.weight_param + 2 * count;
      if (own != kNone && !holds(state_bytes, own, count, 2)) return Status::bad_image;
    }
  }
  return Status::ok;
}

void Model::read(Training& out) const {
  const uint8_t* p = aligned4(at(training_offset_));
  out = {static_cast<Loss>(p[0]), p[1],
         load_u16(p + 2),         load_u16(p + 4),
         load_u16(p + 6),         load_i32(p + 8),
         load_i32(p + 12),        load_u32(p + 16),
         load_u16(p + 24),        load_u16(p + 26) == 1,
         load_u32(p + 28),        load_u32(p + 32)};
}

// An op runs again only before an op that reads its output, hence never with parameters that this
// step has changed.
Status Model::check_reruns(const Training& t) const {
  if (t.rerun_count == 0) return Status::ok;
  if (!image_.holds(t.reruns, t.rerun_count, kRerunBytes)) return Status::bad_image;
  uint32_t last = t.first_op;
  for (uint32_t i = 0; i < t.rerun_count; ++i) {
    const uint8_t* p = at(t.reruns + kRerunBytes * i);
    const uint32_t before = load_u16(p), again = load_u16(p + 2);
    if (before > last || before < t.last_op || again >= before) return Status::bad_image;
    if (op(static_cast<uint16_t>(before)).training == 0) return Status::bad_image;
    last = before;
  }
  return Status::ok;
}

Status Model::check_training() const {
  if (!trainable()) return Status::ok;
  const Training t = training();
  if (t.first_op >= op_count || t.last_op > t.first_op) return Status::bad_image;
  if (t.tensor >= tensor_count || op(t.first_op).output != t.tensor) return Status::bad_image;
  if (load_u16(at(training_offset_) + 26) > 1) return Status::bad_image;
  if (t.adam) {
    const OpKernel* adam = kernel(kAdamOpcode);
    if (adam == nullptr) return Status::unsupported_op;
    KILOTUNE_TRY(adam->adam->check(*this));
  }
  KILOTUNE_TRY(check_reruns(t));
  const Tensor y = tensor(t.tensor);
  if (y.gradient == kNone || y.positions() != 1) return Status::bad_image;
  // Ops that gradients pass have a training entry; the others of the range are stepped over.
  if (op(t.last_op).training == 0) return Status::bad_image;
  for (uint16_t i = t.first_op + 1; i-- > t.last_op;) {
    const Op o = op(i);
    if (o.training == 0) continue;
    if (kernel(o.opcode)->backward == nullptr) return Status::bad_image;
    if (!o.has(kBackwardToInput)) continue;
    // One position may be filled as int32.
    const Tensor x = tensor(o.input);
    if (x.positions() == 1 && !holds_gradient(x, 4)) return Status::bad_image;
  }
  switch (t.loss) {
    case Loss::reconstruction:
      if (tensor(input).elements() != y.elements()) return Status::bad_image;
      [[fallthrough]];
    case Loss::regression:
      // A target has the output's size.
      if (tensor(output).elements() != y.elements()) return Status::bad_image;
      return check(t.a >= 0 && t.a <= 1 << 14 && t.b >= 0 && t.b <= 1 << 14);
    case Loss::cross_entropy:
      return check(holds_gradient(y, 4) && t.classes == y.channels && t.classes >= 2 &&
                   t.classes <= 256 && image_.holds(t.exp_table, 256, 4) &&
                   load_u32(at(t.exp_table)) == 1u << 23);
  }
  return Status::bad_image;
}

}  // namespace kilotune
