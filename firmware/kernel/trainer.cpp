// Forward, loss, backward, update: in the order of the image's op table and back.
#include "kernel/trainer.h"

#include "kernel/ops/copy.h"
#include "kernel/ops/update.h"

namespace kilotune {

namespace {

constexpr Real kOne = {0x8000u, -15};

// Seldom called: small before fast.
[[gnu::cold, gnu::noinline]] void clear(uint8_t* bytes, uint32_t words) {
  for (; words != 0; --words, bytes += 4) {
    store_u32(bytes, 0);
    keep_loop();
  }
}

}  // namespace

const Methods kAllMethods = {loss_value, loss_gradient, true, general_change};
const Methods kPlainSquaredError = {squared_error_value, squared_error_gradient, false, nullptr};

Status Trainer::open(const Model& model, const Memory& arena, const Memory& adapter,
                     const Memory& state, const Methods& methods, const Observer* observer) {
  close();
  outputs_ = 0;
  end();
  if (!model.is_open()) return Status::bad_argument;
  KILOTUNE_TRY(arena.holds(model.arena_bytes));
  KILOTUNE_TRY(adapter.holds(model.adapter_bytes));
  KILOTUNE_TRY(state.holds(model.state_bytes));
  if (model.trainable()) {
    model.read(training_);
    if (training_.loss == Loss::cross_entropy && !methods.classifies) return Status::unsupported_op;
    outputs_ = model.tensor(training_.tensor).channels;  // it has one position
  }
  run_.model = &model;
  run_.arena = arena.data;
  run_.adapter = adapter.data;
  run_.state = model.state_bytes == 0 ? nullptr : state.data;
  run_.observer = observer;
  methods_ = &methods;
  steps_ = saturated_ = 0;
  return reset_parameters();
}

Status Trainer::reset_parameters() {
  if (run_.model == nullptr) return Status::wrong_state;
  end();
  const Model& model = *run_.model;
  for (uint16_t i = 0; i < model.op_count; ++i) {
    const Op op = model.op(i);
    if (op.has(kBiasTrained)) clear(run_.adapter + op.bias_param, model.tensor(op.output).channels);
    if (op.has(kWeightsTrained)) {
      model.kernel(op.opcode)->weights->reset(
          model, op, reinterpret_cast<int16_t*>(run_.adapter + op.weight_param));
    }
  }
  return Status::ok;
}

Status Trainer::copy_parameters(const uint8_t* adapter, uint32_t bytes) {
  if (run_.model == nullptr) return Status::wrong_state;
  if (!parameters_valid(adapter, bytes)) return Status::bad_argument;
  end();
  const Model& model = *run_.model;
  for (uint16_t i = 0; i < model.op_count; ++i) {
    const Op op = model.op(i);
    const uint32_t out = model.tensor(op.output).channels;
    if (op.has(kBiasTrained))
      std::memcpy(run_.adapter + op.bias_param, adapter + op.bias_param, 4 * out);
    if (op.has(kWeightsTrained)) {
      const uint32_t n = model.kernel(op.opcode)->weights->count(model, op);
      std::memcpy(run_.adapter + op.weight_param, adapter + op.weight_param, 2 * n);
    }
  }
  return Status::ok;
}

bool Trainer::parameters_valid(const uint8_t* adapter, uint32_t bytes) const {
  if (run_.model == nullptr || bytes != run_.model->adapter_bytes) return false;
  if (adapter == nullptr) return bytes == 0;
  const Model& model = *run_.model;
  for (uint16_t i = 0; i < model.op_count; ++i) {
    const Op op = model.op(i);
    const uint32_t out = model.tensor(op.output).channels;
    for (uint32_t o = 0; op.has(kBiasTrained) && o < out; ++o) {
      const int32_t d = load_i32(adapter + op.bias_param + 4 * o);
      if (d < -kBiasDeltaMax || d > kBiasDeltaMax) return false;
    }
    if (op.has(kWeightsTrained) &&
        !model.kernel(op.opcode)->weights->valid(model, op, adapter + op.weight_param)) {
      return false;
    }
  }
  return true;
}

Status Trainer::trains() const {
  if (run_.model == nullptr) return Status::wrong_state;
  return outputs_ == 0 ? Status::not_trainable : Status::ok;
}

Status Trainer::begin(const TrainConfig& config) {
  end();
  KILOTUNE_TRY(trains());
  const bool sums = config.accumulate > 1, keeps = sums || config.momentum_q15 > 0;
  const bool stateless = run_.state == nullptr;
  const bool good = !config.rate.is_zero() && config.accumulate >= 1 &&
                    config.momentum_q15 <= 32767 && !(training_.adam && sums) &&
                    !(keeps && stateless) &&
                    ((stateless && config.decay.is_zero()) || methods_->rule != nullptr);
  if (!good) return Status::bad_argument;
  adam_.kernel = nullptr;
  if (training_.adam) {
    adam_.kernel = run_.model->kernel(kAdamOpcode)->adam;
    adam_.kernel->begin(adam_, config.momentum_q15);
  }
  config_ = config;
  steps_ = saturated_ = 0;
  if (!stateless) clear(run_.state, run_.model->state_bytes / 4);
  return scale_rate(kOne);
}

Status Trainer::scale_rate(Real factor) {
  if (config_.accumulate == 0) return Status::wrong_state;
  const Real rate = config_.rate * factor;
  step_rate_ = rate * make_real((1u << 31) / config_.accumulate, -31);
  step_decay_ = rate * config_.decay;
  return Status::ok;
}

int8_t* Trainer::input() { return place(&Model::input); }
const int8_t* Trainer::output() const { return place(&Model::output); }

int8_t* Trainer::place(uint16_t Model::*tensor) const {
  const Model* model = run_.model;
  return model == nullptr ? nullptr : run_.data(model->tensor(model->*tensor));
}

Status Trainer::forward(bool recording) {
  if (run_.model == nullptr) return Status::wrong_state;
  if (recording && !run_.model->trainable()) return Status::not_trainable;
  run(0, recording ? training_.first_op + 1u : run_.model->op_count, recording);
  return Status::ok;
}

// The forward passes of ops `first` to `end` - 1.
void Trainer::run(uint32_t first, uint32_t end, bool recording) {
  const Model& model = *run_.model;
  for (uint32_t i = first; i < end; ++i) {
    const Op op = model.op(static_cast<uint16_t>(i));
    model.kernel(op.opcode)->forward(run_, op, recording);
    if (run_.observer != nullptr && run_.observer->tensor != nullptr) {
      run_.observer->tensor(run_.observer->context, op.output, run_.data(model.tensor(op.output)));
    }
  }
}

// Whether the loss can say how far the output is from `target`.
Status Trainer::check(const Target& target) const {
  KILOTUNE_TRY(trains());
  const bool given = target.values != nullptr;
  const bool fits = given ? target.count == outputs_ : training_.loss == Loss::reconstruction;
  const bool good = training_.loss == Loss::cross_entropy
                        ? !given && target.category < training_.classes
                        : fits && target.category == kNoCategory;
  return good ? Status::ok : Status::bad_argument;
}

Status Trainer::step(const Target& target) {
  KILOTUNE_TRY(check(target));
  if (config_.accumulate == 0) return Status::wrong_state;
  const Model& model = *run_.model;
  run(0, training_.first_op + 1u, true);
  methods_->gradient(run_, training_, target);
  Step step;
  step.rule = methods_->rule;
  step.rate = step_rate_;
  step.decay = step_decay_;
  step.momentum_q15 = config_.momentum_q15;
  const uint32_t phase = steps_ % config_.accumulate;
  step.first = phase == 0;
  step.last = phase + 1u == config_.accumulate;
  step.random = Random(config_.seed, steps_);
  if (adam_.kernel != nullptr) {
    adam_.kernel->advance(adam_);
    step.adam = &adam_;
  }
  uint32_t rerun = 0;
  for (uint16_t i = static_cast<uint16_t>(training_.first_op + 1); i-- > training_.last_op;) {
    const Op op = model.op(i);
    if (op.training == 0) continue;
    if (run_.observer != nullptr && run_.observer->gradient != nullptr) {
      const Tensor y = model.tensor(op.output);
      run_.observer->gradient(run_.observer->context, i, run_.mantissas(y), run_.exponents(y));
    }
    for (; rerun < training_.rerun_count; ++rerun) {
      const uint8_t* next = model.at(training_.reruns + kRerunBytes * rerun);
      if (load_u16(next) != i) break;
      const uint32_t again = load_u16(next + 2);
      run(again, again + 1, false);  // the pass masks are there already
    }
    if (step.adam != nullptr) adam_.kernel->enter(adam_, model, op);
    model.kernel(op.opcode)->backward(run_, op, step);
  }
  saturated_ += step.saturated;
  ++steps_;
  return Status::ok;
}

Status Trainer::loss(const Target& target, uint64_t& out) {
  KILOTUNE_TRY(check(target));
  run(0, training_.first_op + 1u, true);
  out = methods_->loss(run_, training_, target);
  return Status::ok;
}

}  // namespace kilotune
