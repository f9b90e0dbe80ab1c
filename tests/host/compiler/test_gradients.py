"""The float64 gradient reference against finite differences, and the image's planned constants against it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from kilotune.adapters.adapter import Adapter
from kilotune.compiler.compile import Loss, compile
from kilotune.image.image import Image

from tests.support import shared_data, small_models
from tests.support.reference import Reference
from tests.support.small_models import DenseSpec

LOSSES: list[tuple[Loss, bool]] = [(Loss.reconstruction, False), (Loss.regression, False), (Loss.classification, True)]


def make(loss: Loss, softmax: bool, *, per_channel: bool, method: Any = "bias+head", seed: int = 0) -> Image:
    widths = (16, 24, 8, 16) if loss is Loss.reconstruction else (16, 24, 8, 5)
    model = small_models.chain(*widths, per_channel=per_channel, softmax=softmax, seed=seed)
    return compile(model, method=method, loss=loss)


def sample(image: Image, seed: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64], int]:
    """(input, target, label)"""
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, image.input_bytes).astype(np.int8)
    return x, rng.integers(-128, 128, image.output_bytes), int(rng.integers(0, image.output_bytes))


def gated_loss(r: Reference, values: list[Any], op: int, change_b: Any, change_w: Any, **target: Any) -> float:
    """Loss when parameters of `op` change a little: masks stay, rounding is straight-through."""
    kind, first, _, tensor, _, _, _ = r.loss_section()
    x = r.real(r.ops[op].input, values[r.ops[op].input])
    move = np.where(r.passes(r.ops[op], values), change_b + change_w @ x, 0.0)
    for i in range(op + 1, first + 1):
        weights, _ = r.effective(r.ops[i])
        move = np.where(r.passes(r.ops[i], values), (weights * r.weight_scales(r.ops[i])[:, None]) @ move, 0.0)
    y = r.real(tensor, values[tensor]) + move
    if kind == 3:
        shifted = y - y.max()
        return float(np.log(np.exp(shifted).sum()) - shifted[target["label"]])
    t = r.real(r.input, values[r.input]) if kind == 1 else r.real(tensor, target["target"])
    return float(np.mean((y - t) ** 2))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("loss", "softmax"), LOSSES)
def test_the_reference_gradient_is_the_slope_of_the_loss(loss: Loss, softmax: bool, per_channel: bool) -> None:
    image = make(loss, softmax, per_channel=per_channel)
    r = Reference(image.content, Adapter.base(image).blob)
    x, target, label = sample(image, 1)
    values = r.forward(x)
    gradients = r.gradients(values, label=label, target=target)
    assert set(gradients) == {0, 1, 2}
    rng = np.random.default_rng(2)
    for op, (db, dw) in gradients.items():
        direction_b, direction_w = rng.normal(size=db.shape), rng.normal(size=dw.shape)
        h = 1e-6
        up = gated_loss(r, values, op, h * direction_b, h * direction_w, label=label, target=target)
        down = gated_loss(r, values, op, -h * direction_b, -h * direction_w, label=label, target=target)
        slope = float((db * direction_b).sum() + (dw * direction_w).sum())
        assert (up - down) / (2 * h) == pytest.approx(slope, rel=1e-5, abs=1e-7)


def cosine(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def check_plan(image: Image, x: Any, *, label: int, target: Any) -> int:
    """The image's mantissa widths and constants give the reference's gradient; returns layers compared.

    Lengths agree to 1 % beyond what the rounding of mantissas can explain (in a layer of one unit whose products
    nearly cancel, that is all of it: the gradients of all layers before it share one factor that is off).
    """
    r = Reference(image.content, Adapter.base(image).blob)
    values = r.forward(x)
    gradients = r.gradients(values, label=label, target=target)
    errors: dict[int, Any] = {}
    changes = r.integer_changes(values, label=label, target=target, errors=errors)
    compared = 0
    for layer in image.trained:
        (db, dw), (change_b, change_w) = gradients[layer.op], changes[layer.op]
        op = r.ops[layer.op]
        units = r.weight_scales(op) * float(np.float32(r.tensors[op.input].scale))
        got_b = -change_b * units * 2.0**-layer.bias_fraction_bits
        got_w = -change_w * (r.weight_scales(op) / 256)[:, None]
        error_b, error_w = errors[layer.op]
        lost_b = error_b * units * 2.0**-layer.bias_fraction_bits
        lost_w = error_w * (r.weight_scales(op) / 256)[:, None]
        for wanted, got, lost in ((db, got_b, lost_b), (dw, got_w, lost_w)):
            if np.abs(wanted).max() > 0:
                length, explained = float(np.linalg.norm(wanted)), float(np.linalg.norm(lost))
                assert cosine(wanted, got) >= 0.999
                assert abs(float(np.linalg.norm(got)) - length) <= 0.01 * length + explained
                compared += 1
    return compared


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("loss", "softmax"), LOSSES)
def test_planned_constants_give_real_gradients(loss: Loss, softmax: bool, per_channel: bool) -> None:
    image = make(loss, softmax, per_channel=per_channel)
    compared = 0
    for seed in range(10):
        x, target, label = sample(image, seed)
        compared += check_plan(image, x, label=label, target=target)
    assert compared >= 30


@settings(max_examples=40, deadline=None)
@given(small_models.dense_specs(float_border=False))
def test_any_network_plans_real_gradients(spec: DenseSpec) -> None:
    image = compile(small_models.dense_model(spec), method="bias+head")
    x, target, label = sample(image, spec.seed)
    r = Reference(image.content, Adapter.base(image).blob)
    _, g = r.loss(r.forward(x), label=label, target=target)
    assume(np.abs(g).max() > 1e-3 * image.output_quantisation[0])
    check_plan(image, x, label=label, target=target)


def test_products_that_cancel_in_one_unit_move_lengths_only_as_far_as_rounding_explains() -> None:
    spec = DenseSpec((1, 14, 8, 1, 25), ("RELU6",) * 4, (False,) * 4, (False,) * 4, softmax=True, seed=70153)
    image = compile(small_models.dense_model(spec), method="bias+head")
    x, target, label = sample(image, spec.seed)
    assert check_plan(image, x, label=label, target=target) == 8


def test_ad01_plans_real_gradients() -> None:
    image = compile(shared_data.ad01(), method="bias+head")
    windows = shared_data.ad01_windows()
    compared = sum(check_plan(image, windows[i], label=0, target=None) for i in (0, 50, 195))
    assert compared >= 3 * 8


def test_mantissa_widths_follow_the_column_norms() -> None:
    """Wide layers lose bits, trained ones are taken at their worst, narrow ones keep all 15."""
    frozen = Reference(compile(small_models.chain(8, 900, 900, seed=1), method="bias").content)
    weights = frozen.effective(frozen.ops[1])[0]
    norm = int(np.abs(weights).sum(0).max())
    bits = frozen.tensors[frozen.output].mantissa_bits
    assert norm << bits < 1 << 31 <= norm << (bits + 1)
    trained = Reference(compile(small_models.chain(8, 600, 600, seed=1), method="bias+head").content)
    assert trained.tensors[trained.output].mantissa_bits == 14  # 600 * 127 * 2^15 does not fit
    narrow = Reference(compile(small_models.chain(8, 4, 4), method="bias").content)
    assert [t.mantissa_bits for t in narrow.tensors] == [0, 15, 15]
