"""Builds int8 `.tflite` files by hand, tensor by tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt

FULLY_CONNECTED, RESHAPE, SOFTMAX, QUANTIZE, DEQUANTIZE, TANH = 9, 22, 25, 114, 6, 28
SHAPE, STRIDED_SLICE, PACK = 77, 45, 83
FLOAT32, INT32, UINT8, INT16, INT8 = 0, 2, 3, 7, 9
ACTIVATIONS = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
TANH_ACTIVATION = 4  # of an LSTM
_OPTIONS = {FULLY_CONNECTED: 8, SOFTMAX: 9, RESHAPE: 17}
# Versions that know int8, of the operators that need one beyond the first.
_VERSIONS = {FULLY_CONNECTED: 4, SOFTMAX: 2, DEQUANTIZE: 2, QUANTIZE: 2}


@dataclass
class TensorSpec:
    shape: tuple[int, ...]
    dtype: int = INT8
    scales: tuple[float, ...] = ()
    zero_point: int = 0
    buffer: int = 0
    name: str = "t"
    dimension: int = 0  # that several scales run along
    variable: bool = False  # a state


@dataclass
class OpSpec:
    code: int
    inputs: list[int]
    outputs: list[int]
    activation: str = "NONE"
    beta: float = 1.0
    options: tuple[int, dict[int, tuple[str, Any]]] | None = None  # (type, fields) of another operator
    intermediates: list[int] = field(default_factory=list)


@dataclass
class ModelBuilder:
    """Tensors, buffers and operators of one subgraph, serialised by `build`."""

    tensors: list[TensorSpec] = field(default_factory=list)
    buffers: list[bytes] = field(default_factory=lambda: [b""])
    ops: list[OpSpec] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    subgraphs: int = 1
    version: int = 3

    def tensor(self, *args: Any, **kwargs: Any) -> int:
        self.tensors.append(TensorSpec(*args, **kwargs))
        return len(self.tensors) - 1

    def buffer(self, data: bytes) -> int:
        self.buffers.append(data)
        return len(self.buffers) - 1

    def activation(self, shape: tuple[int, ...], scale: float, zero_point: int, dtype: int = INT8) -> int:
        name = f"activation_{len(self.tensors)}"
        return self.tensor(shape, dtype, (scale,) if dtype != FLOAT32 else (), zero_point, self.buffer(b""), name)

    def weights(self, values: npt.NDArray[np.int8], scales: tuple[float, ...]) -> int:
        name = f"weights_{len(self.tensors)}"
        return self.tensor(values.shape, INT8, scales, 0, self.buffer(values.astype(np.int8).tobytes()), name)

    def bias(self, values: npt.NDArray[np.int32], scales: tuple[float, ...], buffer: int | None = None) -> int:
        data = values.astype("<i4").tobytes()
        at = self.buffer(data) if buffer is None else buffer
        return self.tensor(values.shape, INT32, scales, 0, at, f"bias_{len(self.tensors)}")

    def dense(self, source: int, weights: int, bias: int, output: int, activation: str = "NONE") -> None:
        self.ops.append(OpSpec(FULLY_CONNECTED, [source, weights, bias], [output], activation))

    def build(self) -> bytes:
        b = flatbuffers.Builder(1024)
        buffers = [_buffer(b, data) for data in self.buffers]
        codes = sorted({op.code for op in self.ops})
        code_offsets = [
            _table(b, 4, {0: ("i8", min(code, 127)), 2: ("i32", _VERSIONS.get(code, 1)), 3: ("i32", code)})
            for code in codes
        ]
        graphs = [self._subgraph(b, codes) for _ in range(self.subgraphs)]
        description = b.CreateString("test model")
        fields = {
            0: ("u32", self.version),
            1: ("off", _offsets(b, code_offsets)),
            2: ("off", _offsets(b, graphs)),
            3: ("off", description),
            4: ("off", _offsets(b, buffers)),
        }
        b.Finish(_table(b, 8, fields), b"TFL3")
        return bytes(b.Output())

    def _subgraph(self, b: Any, codes: list[int]) -> int:
        tensors = [_tensor(b, t) for t in self.tensors]
        ops = []
        for op in self.ops:
            options = None
            if op.code == FULLY_CONNECTED:
                options = _table(b, 4, {0: ("i8", ACTIVATIONS[op.activation])})
            elif op.code == SOFTMAX:
                options = _table(b, 1, {0: ("f32", op.beta)})
            kind = _OPTIONS.get(op.code, 0)
            if op.options is not None:
                kind, options = op.options[0], _table(b, 12, op.options[1])
            fields = {
                0: ("u32", codes.index(op.code)),
                1: ("off", _ints(b, op.inputs)),
                2: ("off", _ints(b, op.outputs)),
            }
            if op.intermediates:
                fields[8] = ("off", _ints(b, op.intermediates))
            if options is not None:
                fields |= {3: ("u8", kind), 4: ("off", options)}
            ops.append(_table(b, 9, fields))
        fields = {
            0: ("off", _offsets(b, tensors)),
            1: ("off", _ints(b, self.inputs)),
            2: ("off", _ints(b, self.outputs)),
            3: ("off", _offsets(b, ops)),
        }
        return _table(b, 5, fields)


def _table(b: Any, slots: int, fields: dict[int, tuple[str, Any]]) -> int:
    b.StartObject(slots)
    for slot, (kind, value) in fields.items():
        if kind == "off":
            b.PrependUOffsetTRelativeSlot(slot, value, 0)
        elif kind == "f32":
            b.PrependFloat32Slot(slot, value, 0.0)
        else:
            getattr(
                b,
                {
                    "i8": "PrependInt8Slot",
                    "u8": "PrependUint8Slot",
                    "i32": "PrependInt32Slot",
                    "u32": "PrependUint32Slot",
                }[kind],
            )(slot, value, 0)
    return int(b.EndObject())


def _offsets(b: Any, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _ints(b: Any, values: list[int]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependInt32(value)
    return int(b.EndVector())


def _buffer(b: Any, data: bytes) -> int:
    if not data:
        return _table(b, 1, {})
    b.StartVector(1, len(data), 16)
    b.head -= len(data)
    b.Bytes[b.head : b.head + len(data)] = data
    return _table(b, 1, {0: ("off", b.EndVector())})


def _tensor(b: Any, t: TensorSpec) -> int:
    name = b.CreateString(t.name)
    fields: dict[int, tuple[str, Any]] = {}
    if t.scales:
        b.StartVector(8, len(t.scales), 8)
        for _ in t.scales:
            b.PrependInt64(t.zero_point)
        zero_points = b.EndVector()
        b.StartVector(4, len(t.scales), 4)
        for scale in reversed(t.scales):
            b.PrependFloat32(scale)
        scales = b.EndVector()
        fields[4] = (
            "off",
            _table(b, 7, {2: ("off", scales), 3: ("off", zero_points), 6: ("i32", t.dimension)}),
        )
    fields |= {
        0: ("off", _ints(b, list(t.shape))),
        1: ("i8", t.dtype),
        2: ("u32", t.buffer),
        3: ("off", name),
        5: ("i8", int(t.variable)),
    }
    return _table(b, 8, fields)
