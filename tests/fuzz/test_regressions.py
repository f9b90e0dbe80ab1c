"""What the fuzz targets have found, each distilled to the field that it takes."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from kilotune import _native
from kilotune.adapters.adapter import Adapter
from kilotune.adapters.calibration import Calibration
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.envelope import read_header, seal
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.image.layout import HEADER_BYTES, NONE, OP_BYTES, TENSOR_BYTES
from kilotune.link.transport import InProcess

from tests.fuzz.seeds import images

IMAGES = images()
OP_WEIGHTS, OP_BIAS_PARAM, OP_WEIGHT_PARAM = 12, 28, 32
DEPTHWISE, LOOKUP, ADD = 4, 8, 9
RECORDS_MASK, PASSES_ON, PASSES_ON_TO_SECOND = 8, 16, 64
TENSOR_DATA, TENSOR_MANTISSA_BITS, TENSOR_GRADIENT, TENSOR_MASK = 0, 11, 16, 20


def changed(name: str, edit: Callable[[bytearray], None]) -> bytes:
    content = bytearray(IMAGES[name])
    edit(content)
    return seal(read_header(IMAGES[name]), bytes(content[HEADER_BYTES:]))


def last_op(content: bytes | bytearray) -> int:
    """Offset of the last op's entry."""
    ops, count = u32(content, 92), int(struct.unpack_from("<H", content, 82)[0])
    return ops + OP_BYTES * (count - 1)


def u32(content: bytes | bytearray, at: int) -> int:
    return int(struct.unpack_from("<I", content, at)[0])


def twin(content: bytes) -> Device:
    class Whole:
        session = _native.Session(content, bytearray(b"\xff" * 65536))

        def exchange(self, request: bytes) -> bytes:
            return bytes(self.session.exchange(request))

    return Device(InProcess(Whole()), image=Image.from_bytes(content))


def test_the_base_adapter_is_accepted_where_a_base_weight_is_minus_128() -> None:
    def lowest(content: bytearray) -> None:
        content[u32(content, last_op(content) + OP_WEIGHTS)] = 0x80

    device = twin(changed("ready-regression", lowest))
    before = device.pull_bytes()
    device.push(device.pull())
    assert device.pull_bytes() == before


def test_other_weights_below_minus_127_are_still_refused() -> None:
    image = Image.from_bytes(IMAGES["ready-regression"])
    blob = bytearray(Adapter.base(image).blob)
    at = u32(image.content, last_op(image.content) + OP_WEIGHT_PARAM)
    blob[at : at + 2] = struct.pack("<h", -128 * 256)
    with pytest.raises(KilotuneError):
        twin(image.content).push(Adapter.from_blob(image, bytes(blob)))


def test_parameters_that_share_bytes_are_refused() -> None:
    def overlapping(content: bytearray) -> None:
        op = last_op(content)
        struct.pack_into("<I", content, op + OP_WEIGHT_PARAM, u32(content, op + OP_BIAS_PARAM))

    _native.Kernel(IMAGES["ready-regression"])
    with pytest.raises(Exception, match="status"):
        _native.Kernel(changed("ready-regression", overlapping))


def test_mantissas_of_a_gradient_that_is_not_there_are_refused() -> None:
    def wide(content: bytearray) -> None:
        tensor = u32(content, 88)  # the input: no gradient
        assert u32(content, tensor + TENSOR_GRADIENT) == 0xFFFFFFFF
        content[tensor + TENSOR_MANTISSA_BITS] = 255

    with pytest.raises(Exception, match="status"):
        _native.Kernel(changed("ready-regression", wide))


@pytest.mark.parametrize("opcode", [LOOKUP, ADD])
def test_an_operator_that_trains_nothing_and_passes_nothing_on_is_refused(opcode: int) -> None:
    """Its backward pass wrote to the place of a gradient, or to scratch, that is not there."""
    whole = IMAGES["operators"]
    content = bytearray(whole)
    ops, count = u32(content, 88 + 4), struct.unpack_from("<H", content, 82)[0]
    at = next(ops + OP_BYTES * i for i in range(count) if content[ops + OP_BYTES * i] == opcode)
    assert content[at + 1] & PASSES_ON
    assert u32(content, at + 36)  # its training entry
    content[at + 1] &= ~(PASSES_ON | PASSES_ON_TO_SECOND)
    _native.Kernel(whole)
    with pytest.raises(Exception, match="status"):
        _native.Kernel(seal(read_header(whole), bytes(content[HEADER_BYTES:])))


def test_an_output_without_a_pass_mask_records_none() -> None:
    """A depthwise convolution wrote the mask all the same: to address 0."""
    content = bytearray(IMAGES["operators"])
    ops, count = u32(content, 88 + 4), struct.unpack_from("<H", content, 82)[0]
    at = next(ops + OP_BYTES * i for i in range(count) if content[ops + OP_BYTES * i] == DEPTHWISE)
    assert content[at + 1] & RECORDS_MASK
    output = u32(content, 88) + TENSOR_BYTES * struct.unpack_from("<H", content, at + 6)[0]
    assert u32(content, output + TENSOR_MASK) != NONE
    struct.pack_into("<I", content, output + TENSOR_MASK, NONE)
    image = Image.from_bytes(seal(read_header(IMAGES["operators"]), bytes(content[HEADER_BYTES:])))
    device = twin(image.content)
    x = np.zeros((2, image.input_bytes), np.int8)
    device.train(x, labels=[0, 1], steps=2, lr=0.01)
    assert len(device.infer(x)) == 2


def test_logits_under_their_own_gradient_do_not_lead_out_of_the_loss_table() -> None:
    def on_top(content: bytearray) -> None:
        logits = struct.unpack_from("<H", content, u32(content, 96) + 6)[0]
        tensor = u32(content, 88) + TENSOR_BYTES * logits
        struct.pack_into("<I", content, tensor + TENSOR_DATA, u32(content, tensor + TENSOR_GRADIENT) + 4)

    device = twin(changed("ready-classes", on_top))
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (8, 8)).astype(np.int8)
    device.train(x, labels=[0, 1, 2, 0, 1, 2, 0, 1], steps=40, lr=0.1)
    assert len(device.infer(x)) == 8


def test_biases_at_the_end_of_their_range_stay_there() -> None:
    """The sum with a change exceeded 32 bits, which is undefined, though every compiler so far got it right."""
    image = Image.from_bytes(IMAGES["ready-regression"])
    biases, most = u32(image.content, last_op(image.content) + OP_BIAS_PARAM), 2**30 - 1
    blob = bytearray(Adapter.base(image).blob)
    blob[biases : biases + 20] = struct.pack("<5i", *[most, -most, most, -most, 0])
    device = twin(image.content)
    device.push(Adapter.from_blob(image, bytes(blob)))
    x = np.zeros((4, 7), np.int8)
    for target in (-128, 127):
        device.train(x, labels=np.full((4, 5), target, np.int8), steps=12, lr=1e4)
        after = struct.unpack_from("<5i", device.pull_bytes(), biases)
        assert all(abs(v) <= most for v in after)
        assert most in map(abs, after)


def test_a_pushed_label_that_names_no_class_is_refused() -> None:
    image = Image.from_bytes(IMAGES["classes"])
    features, capacity = 8, 9
    blob = bytearray(Adapter.base(image).blob)
    blob[:32] = struct.pack("<4BHhIIhhH10x", 1, 0, 1, 0, 2, 0, 2, 0, 0, 0, capacity)
    labels = 32 + 6 * features
    assert image.calibration_bytes >= labels + capacity * (1 + features)
    blob[32 + 2 * features : 32 + 4 * features] = struct.pack("<H", 4096) * features
    blob[labels] = 3
    device = twin(image.content)
    with pytest.raises(KilotuneError):
        device.push(Adapter.from_blob(image, bytes(blob)))
    blob[labels] = 2
    device.push(Adapter.from_blob(image, bytes(blob)))


@pytest.mark.parametrize("data", [None, [], 7, {}, {"windows": 3}])
def test_a_calibration_that_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(KilotuneError):
        Calibration.from_json(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1, 10**400, "x", [10**400]])
def test_feature_settings_of_a_wrong_type_are_refused(value: object) -> None:
    settings = Image.from_bytes(IMAGES["classes"]).meta["features"]
    with pytest.raises(KilotuneError):
        FeatureConfig.from_json(settings | {"edges_hz": value})


@pytest.mark.parametrize("value", [3, [1], {"windows": "many"}, {"windows": -1}, {"windows": 10**9}])
def test_calibration_settings_of_a_wrong_type_are_refused(value: object) -> None:
    image = Image.from_bytes(IMAGES["classes"])
    damaged = Image(image.content, image.header, image.meta | {"calibration": value}, image.layers)
    with pytest.raises(KilotuneError):
        Adapter.base(damaged)


def test_ops_that_run_again_must_come_before_the_one_that_needs_them() -> None:
    content = IMAGES["recomputed"]
    training = u32(content, 96)
    reruns, count = u32(content, training + 28), u32(content, training + 32)
    before, again = struct.unpack_from("<HH", content, reruns)
    ops = struct.unpack_from("<H", content, 82)[0]
    assert count > 1
    assert again < before < ops

    def opened(at: int, layout: str, *values: int) -> None:
        _native.Kernel(changed("recomputed", lambda c: struct.pack_into(layout, c, at, *values)))

    opened(reruns, "<HH", before, again)
    for pair in ((before, before), (ops, again), (before, 0xFFFF), (0, again)):
        with pytest.raises(Exception, match="status"):
            opened(reruns, "<HH", *pair)
    for place in ((reruns, 0xFFFFFFFF), (0xFFFFFFFC, count), (reruns + 2, count)):
        with pytest.raises(Exception, match="status"):
            opened(training + 28, "<II", *place)
