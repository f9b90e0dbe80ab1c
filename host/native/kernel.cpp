// Binds the training kernel alone, for ready model inputs: every tensor and gradient can be seen.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "kernel/trainer.h"
#include "native.h"
#include "runtime/engine/operators.h"

namespace nb = nanobind;

namespace kilotune::native {
namespace {

using Int8Rows = nb::ndarray<const int8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Int8Row = nb::ndarray<const int8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

class Kernel {
 public:
  explicit Kernel(nb::bytes image) : image_(image) {
    check(model_.open(image_.data(), image_.size(), operator_table()));
    arena_.resize(model_.arena_bytes);
    adapter_.resize(model_.adapter_bytes);
    state_.resize(model_.state_bytes);
    observer_ = {this, on_tensor, on_gradient};
    check(trainer_.open(model_, arena_.memory(), adapter_.memory(), state_.memory(), &observer_));
  }
  Kernel(const Kernel&) = delete;

  nb::object infer(const Int8Rows& x) {
    const size_t in = inputs(), out = model_.tensor(model_.output).elements();
    if (x.shape(1) != in) throw nb::value_error("inputs have the wrong length");
    const size_t rows = x.shape(0);
    Array<int8_t> y(rows * out);
    {
      nb::gil_scoped_release release;
      for (size_t i = 0; i < rows; ++i) {
        std::memcpy(trainer_.input(), x.data() + i * in, in);
        (void)trainer_.forward();  // open
        std::memcpy(y.data() + i * out, trainer_.output(), out);
      }
    }
    return y.numpy({rows, out});
  }

  // Every tensor that one forward pass writes: [(tensor index, values)], the input first.
  nb::list tensors(const Int8Row& x) {
    load(x);
    nb::list seen;
    seen.append(nb::make_tuple(model_.input, copy(model_.input, trainer_.input())));
    seen_tensors_ = &seen;
    (void)trainer_.forward();
    seen_tensors_ = nullptr;
    return seen;
  }

  void begin(Real rate, Real decay, uint16_t momentum_q15, uint16_t accumulate, uint32_t seed) {
    check(trainer_.begin({rate, decay, momentum_q15, accumulate, seed}));
  }

  void step(const Int8Row& x, uint16_t label, std::optional<Int8Row> target) {
    load(x);
    check(trainer_.step(make_target(label, target)));
  }

  // One training step that also returns what went backward: [(op index, mantissas, exponents)], and
  // every tensor of the pass.
  nb::tuple observed_step(const Int8Row& x, uint16_t label, std::optional<Int8Row> target) {
    load(x);
    nb::list tensors, gradients;
    tensors.append(nb::make_tuple(model_.input, copy(model_.input, trainer_.input())));
    seen_tensors_ = &tensors;
    seen_gradients_ = &gradients;
    const Status status = trainer_.step(make_target(label, target));
    seen_tensors_ = seen_gradients_ = nullptr;
    check(status);
    return nb::make_tuple(tensors, gradients);
  }

  // One training step that calls `event("forward" | "backward", op)` after each op's forward pass
  // and before each op's backward pass: tests look at `arena` there, and may spoil it.
  void traced_step(const Int8Row& x, uint16_t label, std::optional<Int8Row> target,
                   nb::callable event) {
    load(x);
    event_ = &event;
    next_forward_ = 0;
    const Status status = trainer_.step(make_target(label, target));
    event_ = nullptr;
    check(status);
  }
  // The arena itself, not a copy; `guards_intact` says that nothing was written beyond its ends,
  // nor beyond those of adapter and state.
  nb::object arena() {
    return nb::cast(nb::ndarray<nb::numpy, uint8_t>(arena_.data(), {arena_.size()}),
                    nb::rv_policy::reference);
  }
  bool guards_intact() const { return arena_.intact() && adapter_.intact() && state_.intact(); }

  uint64_t loss(const Int8Row& x, uint16_t label, std::optional<Int8Row> target) {
    load(x);
    uint64_t loss = 0;
    check(trainer_.loss(make_target(label, target), loss));
    return loss;
  }

  nb::bytes adapter() const { return nb::bytes(adapter_.data(), adapter_.size()); }
  void set_adapter(nb::bytes blob) {
    if (blob.size() != adapter_.size()) throw nb::value_error("the adapter has the wrong length");
    std::memcpy(adapter_.data(), blob.data(), blob.size());
  }
  void reset() { check(trainer_.reset_parameters()); }
  uint32_t steps() const { return trainer_.steps(); }
  uint32_t saturated() const { return trainer_.saturated(); }

 private:
  size_t inputs() const { return model_.tensor(model_.input).elements(); }

  void load(const Int8Row& x) {
    if (x.shape(0) != inputs()) throw nb::value_error("the input has the wrong length");
    std::memcpy(trainer_.input(), x.data(), inputs());
  }

  Target make_target(uint16_t label, const std::optional<Int8Row>& target) const {
    if (!model_.trainable()) check(Status::not_trainable);
    const Loss loss = model_.training().loss;
    if (loss == Loss::cross_entropy) return Target::of_class(label);
    if (loss == Loss::reconstruction || !target) return {};
    const size_t n = target->shape(0);
    return Target::of_values(target->data(), static_cast<uint16_t>(n > 0xFFFF ? 0 : n));
  }

  nb::object copy(uint16_t index, const int8_t* data) const {
    const size_t n = model_.tensor(index).elements();
    Array<int8_t> a(n);
    std::memcpy(a.data(), data, n);
    return a.numpy({n});
  }

  static void on_tensor(void* context, uint16_t index, const int8_t* data) {
    auto* self = static_cast<Kernel*>(context);
    if (self->event_ != nullptr) (*self->event_)("forward", self->next_forward_++);
    if (self->seen_tensors_ == nullptr) return;
    self->seen_tensors_->append(nb::make_tuple(index, self->copy(index, data)));
  }
  static void on_gradient(void* context, uint16_t op, const int16_t* mantissa,
                          const int16_t* exponent) {
    auto* self = static_cast<Kernel*>(context);
    if (self->event_ != nullptr) (*self->event_)("backward", op);
    if (self->seen_gradients_ == nullptr) return;
    const Tensor t = self->model_.tensor(self->model_.op(op).output);
    Array<int16_t> m(t.elements()), e(t.positions());
    std::memcpy(m.data(), mantissa, 2 * t.elements());
    std::memcpy(e.data(), exponent, 2 * t.positions());
    self->seen_gradients_->append(
        nb::make_tuple(op, m.numpy({t.positions(), t.channels}), e.numpy({t.positions()})));
  }

  AlignedBytes image_;
  Model model_;
  Trainer trainer_;
  Guarded arena_, adapter_, state_;
  Observer observer_{};
  nb::callable* event_ = nullptr;
  int next_forward_ = 0;
  nb::list* seen_tensors_ = nullptr;
  nb::list* seen_gradients_ = nullptr;
};

Real to_real(std::tuple<uint16_t, int16_t> pair) { return {std::get<0>(pair), std::get<1>(pair)}; }

}  // namespace

void bind_kernel(nb::module_& m) {
  using Pair = std::tuple<uint16_t, int16_t>;
  nb::class_<Kernel>(m, "Kernel")
      .def(nb::init<nb::bytes>(), nb::arg("image"))
      .def("infer", &Kernel::infer, nb::arg("x"), "int8 (n, inputs) to int8 (n, outputs)")
      .def("tensors", &Kernel::tensors, nb::arg("x"),
           "[(tensor index, int8 values)] of one forward pass")
      .def(
          "begin",
          [](Kernel& k, Pair rate, Pair decay, uint16_t momentum_q15, uint16_t accumulate,
             uint32_t seed) {
            k.begin(to_real(rate), to_real(decay), momentum_q15, accumulate, seed);
          },
          nb::arg("rate"), nb::arg("decay") = Pair{0, 0}, nb::arg("momentum_q15") = 0,
          nb::arg("accumulate") = 1, nb::arg("seed") = 1)
      .def("step", &Kernel::step, nb::arg("x"), nb::arg("label") = 0,
           nb::arg("target") = nb::none())
      .def("observed_step", &Kernel::observed_step, nb::arg("x"), nb::arg("label") = 0,
           nb::arg("target") = nb::none(), "(tensors, [(op, int16 mantissas, int16 exponents)])")
      .def("loss", &Kernel::loss, nb::arg("x"), nb::arg("label") = 0,
           nb::arg("target") = nb::none())
      .def("traced_step", &Kernel::traced_step, nb::arg("x"), nb::arg("label"),
           nb::arg("target").none(), nb::arg("event"))
      .def_prop_ro("arena", &Kernel::arena, nb::rv_policy::reference)
      .def_prop_ro("guards_intact", &Kernel::guards_intact)
      .def("reset", &Kernel::reset)
      .def_prop_rw("adapter", &Kernel::adapter, &Kernel::set_adapter)
      .def_prop_ro("steps", &Kernel::steps)
      .def_prop_ro("saturated", &Kernel::saturated);
}

}  // namespace kilotune::native
