"""What keeps a model from running is told at once, with the layers' names and a remedy for each."""

from __future__ import annotations

import itertools

import pytest
import tflite
from kilotune.compiler.compile import compile
from kilotune.errors import KilotuneError

from tests.support.networks import Network
from tests.support.tflite_builder import FLOAT32, INT16, UINT8, ModelBuilder, OpSpec

Code = tflite.BuiltinOperator


def test_everything_that_is_not_supported_is_named_once() -> None:
    net = Network(seed=1)
    x = net.dense(net.source(8), 8)
    y = net.add_op(Code.L2_NORMALIZATION, [x.tensor], net.like(x, x.shape))
    z = net.add_op(Code.WHILE, [y.tensor], net.like(x, x.shape))
    again = net.add_op(Code.L2_NORMALIZATION, [z.tensor], net.like(x, x.shape))
    with pytest.raises(KilotuneError) as caught:
        compile(net.finish(net.dense(again, 3)))
    said = caught.value.message
    assert said.startswith("3 things keep the model from running on a device.")
    assert said.count("replace the layer by one of the operators in README") == 1
    assert "operator 2 WHILE" in said
    assert "unroll=True" in said


@pytest.mark.parametrize(
    ("dtype", "weights", "said"),
    [(FLOAT32, FLOAT32, "computes in float32"), (UINT8, UINT8, "TensorFlow 1's way"), (INT16, UINT8, "16x8")],
)
def test_a_model_of_another_type_is_told_in_one_sentence(dtype: int, weights: int, said: str) -> None:
    m = ModelBuilder()
    nodes = [m.activation((1, 4), 0.1, 0, dtype) for _ in range(3)]
    constant = m.tensor((4, 4), weights, (0.1,), 0, m.buffer(bytes(64 if weights == FLOAT32 else 16)), "weights")
    m.ops = [OpSpec(Code.FULLY_CONNECTED, [a, constant, -1], [b]) for a, b in itertools.pairwise(nodes)]
    m.inputs, m.outputs = [nodes[0]], [nodes[2]]
    with pytest.raises(KilotuneError, match=said) as caught:
        compile(m.build())
    assert "all of its 2 layers" in caught.value.message
    assert "kilotune quantize" in caught.value.hint
