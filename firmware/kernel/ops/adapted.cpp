// A dense layer or convolution some of whose weights are trained: forward with the int8 weights
// that a merged model would have, and the propagation of gradients to the input.
#include "kernel/ops/adapted.h"

#include "kernel/ops/dense.h"
#include "kernel/ops/update.h"

namespace kilotune {
namespace {

constexpr int kScratchWord = 5;    // arena offset of one patch, then a block of rows of weights
constexpr uint32_t kSegment = 64;  // weights made at a time, where there is one position

const int16_t* trained_values(const Execution& run, const Op& op) {
  return reinterpret_cast<const int16_t*>(run.adapter + op.weight_param);
}

// Slots count up from 0, in the order of the channels.
bool slots_valid(const AdaptedWeights& weights, uint32_t out) {
  uint32_t next = 0;
  for (uint32_t o = 0; o < out; ++o) {
    const uint32_t slot = weights.slot(o);
    if (slot == kNoSlot) continue;
    if (slot != next++) return false;
  }
  return next == weights.trained_channels() && next > 0;
}

Status check_adaptation(const Model& model, const Op& op, uint32_t out, uint64_t fan_in) {
  const Bytes& image = model.image();
  const uint32_t at = op.words[kAdaptationWord];
  if (!image.holds(at, 1, kAdaptationBytes)) return Status::bad_image;
  const Adaptation entry = {model.at(at)};
  const uint32_t rank = entry.rank();
  if (rank > kMaxRank || entry.channels() > out) return Status::bad_image;
  const uint32_t bytes = rank == 0 ? 2 * out : rank * static_cast<uint32_t>(fan_in);
  if (!image.holds(entry.table(), bytes, 1)) return Status::bad_image;
  if (rank == 0) {
    const AdaptedWeights weights(model, op, out, static_cast<uint32_t>(fan_in));
    return slots_valid(weights, out) ? Status::ok : Status::bad_image;
  }
  const bool good = real_valid(entry.factor_step()) && entry.channels() == 0;
  return good ? Status::ok : Status::bad_image;
}

Status validate(const Model& model, const Op& op) {
  const Tensor x = model.tensor(op.input), y = model.tensor(op.output);
  const Window w = adapted_window(op, x, y);
  if (!window_valid(w)) return Status::bad_image;
  if (op.words[0] == 0 ? y.positions() != 1 : w.pointwise() && x.positions() != y.positions())
    return Status::bad_image;
  const uint64_t fan_in = static_cast<uint64_t>(w.taps()) * x.channels;
  if (!op.has(kWeightsTrained)) return Status::bad_image;
  Status status = check_layer(model, op, fan_in * y.channels, products_of(fan_in));
  if (status == Status::ok) status = check_adaptation(model, op, y.channels, fan_in);
  if (status != Status::ok) return status;
  // Low-rank updates need R, as the propagation to the input does.
  const AdaptedLayer layer(model, op);
  if (layer.weights.rank() != 0 && op.has(kPerChannel) != (model.op_training(op).rescale != 0))
    return Status::bad_image;
  const uint64_t forward = layer.forward_scratch_bytes();
  if (forward != 0 && !scratch_holds(model, op.words[kScratchWord], forward))
    return Status::bad_image;
  // The gradients of input and output must not share a place: the weights need the latter later.
  if (op.has(kBackwardToInput) && x.gradient == y.gradient) return Status::bad_image;
  const uint64_t backward = adapted_scratch_bytes(model, op);
  const bool good = backward == 0 || scratch_holds(model, model.op_training(op).scratch, backward);
  return good ? Status::ok : Status::bad_image;
}

// One output position: a row of weights is made piece by piece and never whole.
[[gnu::noinline]] void forward_vector(const Execution& run, const Op& op, bool training) {
  const AdaptedLayer l(*run.model, op);
  const int8_t* x = run.data(l.x);
  const int16_t* values = trained_values(run, op);
  const Biases bias(run, op);
  const Scaling scaling(run, op);
  Outputs outputs(run, op, l.y, training);
  int8_t patch[kSegment];
  for (uint32_t o = 0; o < l.y.channels; ++o) {
    int32_t acc = 0;
    if (!l.weights.trained(o)) {
      acc = dot_q(l.weights.base(o), x, l.fan_in);
    } else {
      int32_t sum = 0;
      for (uint32_t i = 0; i < l.fan_in; i += kSegment) {
        const uint32_t n = l.fan_in - i < kSegment ? l.fan_in - i : kSegment;
        sum += l.weights.fill(values, o, i, n, patch);
        acc += dot_q(patch, x + i, n);
      }
      acc -= sum * l.x.zero_point;
    }
    outputs.put(scaling.apply(o, add_wrapping(bias.at(o), acc)));
  }
}

// One output of several positions, with its bit of the pass mask.
void put(const Execution& run, const Op& op, const AdaptedLayer& l, uint8_t* mask,
         uint32_t position, uint32_t o, int32_t scaled) {
  const int32_t q = clamp(clamp(scaled, -512, 512) + l.y.zero_point, op.act_min, op.act_max);
  run.data(l.y)[position * l.y.channels + o] = static_cast<int8_t>(q);
  if (mask == nullptr) return;
  uint8_t& bits = mask[position * ((l.y.channels + 7u) / 8) + o / 8];
  const uint32_t bit = q > op.act_min && q < op.act_max ? 1u << (o & 7u) : 0;
  bits = static_cast<uint8_t>((o & 7u) == 0 ? bit : bits | bit);
}

// Rows o to o + n of the effective weights: where they lie in the image, or made in `block`.
const int8_t* rows_of(const AdaptedLayer& l, const int16_t* values, uint32_t o, uint32_t n,
                      int8_t* block, int32_t sums[kAdaptedBlock]) {
  bool any = false;
  for (uint32_t k = 0; k < n; ++k) any = any || l.weights.trained(o + k);
  for (uint32_t k = 0; k < n; ++k) sums[k] = 0;
  if (!any) return l.weights.base(o);
  for (uint32_t k = 0; k < n; ++k) {
    int8_t* row = block + k * l.fan_in;
    if (l.weights.trained(o + k)) {
      sums[k] = l.weights.fill(values, o + k, 0, l.fan_in, row);
    } else {
      std::memcpy(row, l.weights.base(o + k), l.fan_in);
    }
  }
  return block;
}

// Four channels at all positions, then the next four: their weights are made once.
[[gnu::noinline]] void forward_positions(const Execution& run, const Op& op, bool training) {
  const AdaptedLayer l(*run.model, op);
  const int8_t* x = run.data(l.x);
  const int16_t* values = trained_values(run, op);
  int8_t* patch = reinterpret_cast<int8_t*>(run.arena + op.words[kScratchWord]);
  int8_t* block = patch + (l.patched() ? l.fan_in : 0);
  uint8_t* mask = run.recorded_mask(op, l.y, training);
  const Biases bias(run, op);
  const Scaling scaling(run, op);
  for (uint32_t o = 0; o < l.y.channels; o += kAdaptedBlock) {
    const uint32_t n = l.y.channels - o < kAdaptedBlock ? l.y.channels - o : kAdaptedBlock;
    int32_t start[kAdaptedBlock];
    const int8_t* rows = rows_of(l, values, o, n, block, start);
    for (uint32_t k = 0; k < n; ++k) start[k] = bias.at(o + k) - start[k] * l.x.zero_point;
    for (uint32_t p = 0; p < l.y.positions(); ++p) {
      const int8_t* in = x + p * l.fan_in;
      if (l.patched()) {
        const int32_t width = l.window.x.out, at = static_cast<int32_t>(p);
        fill_patch(l.window, l.x, x, at / width, at % width, patch);
        in = patch;
      }
      int32_t sums[kAdaptedBlock] = {0, 0, 0, 0};
      if (n == kAdaptedBlock) {
        dot4_q(rows, in, l.fan_in, sums);
      } else {
        for (uint32_t k = 0; k < n; ++k) sums[k] = dot_q(rows + k * l.fan_in, in, l.fan_in);
      }
      for (uint32_t k = 0; k < n; ++k)
        put(run, op, l, mask, p, o + k, scaling.apply(o + k, add_wrapping(start[k], sums[k])));
    }
  }
}

void forward(const Execution& run, const Op& op, bool training) {
  if (op.words[0] == 0) return forward_vector(run, op, training);
  forward_positions(run, op, training);
}

// Propagates a gradient to the input: values(i) += m'(o) * w(o, i).
class PassOn {
 public:
  PassOn(const Execution& run, const Op& op, const AdaptedLayer& l)
      : l_(l), values_(trained_values(run, op)) {
    const OpTraining plan = run.model->op_training(op);
    rescale_ = plan.rescale == 0 ? nullptr : aligned4(run.model->at(plan.rescale));
    int8_t* scratch = reinterpret_cast<int8_t*>(run.arena + plan.scratch);
    segment_ = scratch + 4u * l.x.channels;
    if (l.weights.rank() == 0 || l.whole) return;
    // Every position needs all weights: low-rank sums are made once for all of them.
    matrix_ = segment_;
    for (uint32_t o = 0; o < l.y.channels; ++o)
      l.weights.fill(values_, o, 0, l.fan_in, segment_ + o * l.fan_in);
  }

  void tap(uint32_t tap, const int16_t* mantissas, int shift, int32_t* values) const {
    const uint32_t in = l_.x.channels, first = tap * in;
    for (uint32_t o = 0; o < l_.y.channels; ++o) {
      // As align_gradient, but the mantissas stay: the weights' update needs them.
      int32_t m = mantissas[o];
      if (rescale_ == nullptr) {
        m = align_mantissa(m, shift);
      } else {
        m = (m * load_u16(rescale_ + 2 * o) + (1 << (14 + shift))) >> (15 + shift);
      }
      if (m == 0) continue;
      const int8_t* w = weights(o, first, in);
      for (uint32_t i = 0; i < in; ++i) values[i] = add_wrapping(values[i], m * w[i]);
    }
  }

 private:
  [[nodiscard]] const int8_t* weights(uint32_t o, uint32_t first, uint32_t n) const {
    if (matrix_ != nullptr) return matrix_ + o * l_.fan_in + first;
    if (!l_.weights.trained(o)) return l_.weights.base(o) + first;
    l_.weights.fill(values_, o, first, n, segment_);
    return segment_;
  }

  const AdaptedLayer& l_;
  const int16_t* values_;
  const uint8_t* rescale_;
  int8_t* segment_;
  const int8_t* matrix_ = nullptr;
};

[[gnu::noinline]] void pass_on(const Execution& run, const Op& op) {
  const AdaptedLayer l(*run.model, op);
  const OpTraining plan = run.model->op_training(op);
  const PassOn way(run, op, l);
  if (!l.whole) {
    const int top = largest_exponent(run.exponents(l.y), l.y.positions());
    over_sources(run, op, l.window, top,
                 [&](int32_t, int32_t, int32_t oy, int32_t ox, int32_t tap,
                     const int16_t* mantissas, int32_t* values) {
                   const int e = run.exponents(l.y)[oy * l.window.x.out + ox];
                   // Above `top` only where an image lays other memory over the exponents.
                   if (e != kZeroExponent && e <= top && top - e <= 15)
                     way.tap(static_cast<uint32_t>(tap), mantissas, top - e, values);
                 });
    return;
  }
  int32_t* values = reinterpret_cast<int32_t*>(run.arena + plan.scratch);
  for (uint32_t p = 0; p < l.x.positions(); ++p) {
    std::memset(values, 0, 4u * l.x.channels);
    way.tap(p, run.mantissas(l.y), 0, values);
    put_gradient(run, l.x, p, values, run.exponents(l.y)[0], plan.factor, op.has(kAddsToInput));
  }
}

[[gnu::noinline]] void update_biases(const Execution& run, const Op& op, Step& step) {
  const Tensor y = run.model->tensor(op.output);
  const OpTraining plan = run.model->op_training(op);
  if (y.positions() > 1) return update_bias_positions(run, op, plan, y, step);
  update_bias(run, op, plan, y.channels, run.mantissas(y), run.exponents(y)[0], step);
}

// Each part has a stack frame of its own: the stack is small.
void backward(const Execution& run, const Op& op, Step& step) {
  if (op.has(kBiasTrained)) update_biases(run, op, step);
  if (op.has(kBackwardToInput)) pass_on(run, op);  // before the weights change
  update_adapted(run, op, step);
}

}  // namespace

const OpKernel kAdaptedLayer = {15, validate, forward, backward, &kAdaptedWeights};

}  // namespace kilotune
