// Forward, loss, backward, update: in the order of the image's op table and back.
#include "kernel/trainer.h"

#include "kernel/ops/copy.h"
#include "kernel/ops/update.h"

namespace kilotune {

const Methods kAllMethods = {loss_value, loss_gradient, true, general_change};
const Methods kPlainSquaredError = {squared_error_value, squared_error_gradient, false, nullptr};

Status Trainer::open(const Model& model, uint8_t* arena, uint8_t* adapter, uint8_t* state,
                     const Methods& methods, const Observer* observer) {
  model_ = &model;
  methods_ = &methods;
  run_ = {&model, arena, adapter, state, observer};
  if (model.trainable()) training_ = model.training();
  config_.accumulate = 1;  // the divisor of step() until begin()
  adam_.kernel = nullptr;
  steps_ = saturated_ = 0;
  const bool classifies = model.trainable() && training_.loss == Loss::cross_entropy;
  return classifies && !methods.classifies ? Status::unsupported_op : Status::ok;
}

void Trainer::reset_parameters() {
  for (uint16_t i = 0; i < model_->op_count; ++i) {
    const Op op = model_->op(i);
    const Tensor y = model_->tensor(op.output);
    if (op.has(kBiasTrained))
      clear_words(reinterpret_cast<int32_t*>(run_.adapter + op.bias_param), y.channels);
    if (op.has(kWeightsTrained)) {
      model_->kernel(op.opcode)->weights->reset(
          *model_, op, reinterpret_cast<int16_t*>(run_.adapter + op.weight_param));
    }
  }
}

void Trainer::copy_parameters(const uint8_t* adapter) {
  for (uint16_t i = 0; i < model_->op_count; ++i) {
    const Op op = model_->op(i);
    const uint32_t out = model_->tensor(op.output).channels;
    if (op.has(kBiasTrained))
      std::memcpy(run_.adapter + op.bias_param, adapter + op.bias_param, 4 * out);
    if (op.has(kWeightsTrained)) {
      const uint32_t n = model_->kernel(op.opcode)->weights->count(*model_, op);
      std::memcpy(run_.adapter + op.weight_param, adapter + op.weight_param, 2 * n);
    }
  }
}

bool Trainer::parameters_valid(const uint8_t* adapter) const {
  for (uint16_t i = 0; i < model_->op_count; ++i) {
    const Op op = model_->op(i);
    const uint32_t out = model_->tensor(op.output).channels;
    for (uint32_t o = 0; op.has(kBiasTrained) && o < out; ++o) {
      const int32_t d = load_i32(adapter + op.bias_param + 4 * o);
      if (d < -kBiasDeltaMax || d > kBiasDeltaMax) return false;
    }
    if (op.has(kWeightsTrained) &&
        !model_->kernel(op.opcode)->weights->valid(*model_, op, adapter + op.weight_param)) {
      return false;
    }
  }
  return true;
}

Status Trainer::begin(const TrainConfig& config) {
  if (!model_->trainable()) return Status::not_trainable;
  if (config.accumulate < 1 || config.momentum_q15 > 32767) return Status::bad_argument;
  if (training_.adam) {
    if (config.accumulate != 1) return Status::bad_argument;
    adam_.kernel = model_->kernel(kAdamOpcode)->adam;
    adam_.kernel->begin(adam_, config.momentum_q15);
  }
  const bool needs_state = training_.adam || config.accumulate > 1 || config.momentum_q15 > 0;
  if (needs_state && (model_->state_bytes == 0 || run_.state == nullptr))
    return Status::bad_argument;
  const bool plain = run_.state == nullptr && config.decay.is_zero();
  if (!plain && methods_->rule == nullptr) return Status::bad_argument;
  config_ = config;
  scale_rate(make_real(1, 0));
  if (run_.state != nullptr)
    clear_words(reinterpret_cast<int32_t*>(run_.state), model_->state_bytes / 4);
  steps_ = saturated_ = 0;
  return Status::ok;
}

void Trainer::scale_rate(Real factor) {
  const Real rate = config_.rate * factor;
  step_rate_ = rate * make_real((1u << 31) / config_.accumulate, -31);
  step_decay_ = rate * config_.decay;
}

void Trainer::forward(bool recording) {
  const uint16_t end = recording ? static_cast<uint16_t>(training_.first_op + 1) : model_->op_count;
  for (uint16_t i = 0; i < end; ++i) run_op(i, recording);
}

void Trainer::run_op(uint16_t index, bool recording) {
  const Op op = model_->op(index);
  model_->kernel(op.opcode)->forward(run_, op, recording);
  if (run_.observer != nullptr && run_.observer->tensor != nullptr) {
    run_.observer->tensor(run_.observer->context, op.output, run_.data(model_->tensor(op.output)));
  }
}

void Trainer::step(const Target& target) {
  forward(true);
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
    const Op op = model_->op(i);
    if (op.training == 0) continue;
    if (run_.observer != nullptr && run_.observer->gradient != nullptr) {
      const Tensor y = model_->tensor(op.output);
      run_.observer->gradient(run_.observer->context, i, run_.mantissas(y), run_.exponents(y));
    }
    for (; rerun < training_.rerun_count; ++rerun) {
      const uint8_t* next = model_->at(training_.reruns + kRerunBytes * rerun);
      if (load_u16(next) != i) break;
      run_op(load_u16(next + 2), false);  // the pass masks are there already
    }
    if (step.adam != nullptr) adam_.kernel->enter(adam_, *model_, op);
    model_->kernel(op.opcode)->backward(run_, op, step);
  }
  saturated_ += step.saturated;
  ++steps_;
}

uint64_t Trainer::loss(const Target& target) {
  forward(true);
  return methods_->loss(run_, training_, target);
}

}  // namespace kilotune
