"""Reads a `.tflite` file into frozen dataclasses: strictly, with limits, and without trusting any of its bytes."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kilotune.errors import KilotuneError

MAX_FILE_BYTES = 16 << 20
MAX_ITEMS = 4096  # tensors, operators, buffers, metadata entries
MAX_RANK = 8
MAX_ELEMENTS = 1 << 26
MAX_METADATA_BYTES = 4 << 20

# Numbers of schema.fbs (TensorType).
_DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}
_ACTIVATIONS = {0: "NONE", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file. `scales` and `zero_points` are empty if it is not quantised."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: npt.NDArray[np.float32]
    zero_points: npt.NDArray[np.int64]
    dimension: int  # along which `scales` run, if there are several
    buffer: int
    data: npt.NDArray[np.uint8]  # raw bytes, empty for activations

    @property
    def short_name(self) -> str:
        """The first of the names, which the converter joins with semicolons."""
        name = self.name.split(";")[0]
        return name if len(name) <= 60 else "..." + name[-57:]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def constant(self) -> bool:
        return self.data.size > 0

    @property
    def scale(self) -> np.float32:
        """The only scale of an activation."""
        if self.scales.size != 1:
            raise KilotuneError(
                "unsupported_model",
                f"tensor {self.index} '{self.name}' has {self.scales.size} scales where one is needed",
                "convert the model with full int8 quantisation (`kilotune quantize`)",
            )
        return np.float32(self.scales[0])

    @property
    def zero_point(self) -> int:
        return int(self.zero_points[0]) if self.zero_points.size else 0

    def values(self) -> npt.NDArray[Any]:
        """Constant values in the tensor's shape; a view of the file, read-only."""
        dtype = np.dtype(self.dtype).newbyteorder("<")
        if self.data.size != self.elements * dtype.itemsize:
            raise KilotuneError(
                "bad_model",
                f"tensor {self.index} '{self.name}' has {self.data.size} bytes of data where its shape "
                f"{list(self.shape)} of {self.dtype} needs {self.elements * dtype.itemsize}",
                "the file is damaged or was written by a broken tool: convert the model again",
            )
        return np.frombuffer(self.data, dtype=dtype).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Options:
    """The options that supported operators read; defaults where they do not apply."""

    activation: str = "NONE"
    beta: float = 1.0
    weights_format: int = 0
    padding: str = "VALID"
    stride: tuple[int, int] = (1, 1)  # (height, width), as all pairs here
    dilation: tuple[int, int] = (1, 1)
    window: tuple[int, int] = (1, 1)  # of pooling
    alpha: float = 0.0
    approximate: bool = False  # GELU by tanh
    axis: int = 0  # or the block of DEPTH_TO_SPACE, the mode of MIRROR_PAD
    batch: int = 0  # leading dimensions of GATHER that go with those of the indices
    align_corners: bool = False
    half_pixel_centers: bool = False
    masks: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)  # begin, end, ellipsis, new axis, shrink axis
    cell_limit: float = 0.0  # of an LSTM's states, 0: none
    projection_limit: float = 0.0
    time_major: bool = False
    # Of one value, in float32 between int8 tensors: not in the file, but what several of its operators amount to.
    function: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator, with `code` and `opcode` as in schema.fbs; missing optional inputs are -1."""

    index: int
    code: int
    opcode: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options = field(default_factory=Options)

    def input(self, i: int) -> int:
        return self.inputs[i] if i < len(self.inputs) else -1


@dataclass(frozen=True, slots=True)
class TfliteModel:
    """One subgraph of a `.tflite` file, with operators in execution order."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    metadata: tuple[tuple[str, bytes], ...]
    sha256: bytes

    def metadata_entry(self, name: str) -> bytes | None:
        return next((data for key, data in self.metadata if key == name), None)

    def describe(self, operator: Operator) -> str:
        """The name of an operator in errors."""
        name = self.tensors[operator.outputs[0]].short_name if operator.outputs else "?"
        return f"operator {operator.index} {operator.opcode} ('{name}')"

    def users(self, tensor: int) -> Iterator[Operator]:
        return (op for op in self.operators if tensor in op.inputs)


def read(content: bytes) -> TfliteModel:
    """Reads the bytes of a `.tflite` file.

    Raises KilotuneError: `bad_model` (truncated or damaged), `unsupported_model` (well formed, but beyond what
    Kilotune reads).
    """
    if len(content) > MAX_FILE_BYTES:
        raise KilotuneError(
            "unsupported_model",
            f"the model has {len(content)} bytes, more than the limit of {MAX_FILE_BYTES}",
            "a model for a microcontroller is far smaller: check that this is the right file",
        )
    if len(content) < 8 or content[4:8] != b"TFL3":
        raise KilotuneError(
            "bad_model",
            "this is not a .tflite file: the identifier 'TFL3' is missing",
            "give the int8 .tflite file itself, not a SavedModel, .h5, .keras or .ktm file",
        )
    try:
        return _read(content)
    except DAMAGE as error:
        raise damaged(error) from error


# What the flatbuffers package raises for bytes that are not a flatbuffer.
DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError, MemoryError)


def damaged(error: Exception) -> KilotuneError:
    return KilotuneError(
        "bad_model",
        f"the .tflite file is truncated or damaged ({type(error).__name__} while reading it)",
        "copy or convert the file again",
    )


def _read(content: bytes) -> TfliteModel:
    import tflite

    model = tflite.Model.GetRootAsModel(content, 0)
    if model.Version() != 3:
        raise KilotuneError(
            "unsupported_model",
            f"the .tflite file has schema version {model.Version()}, but only version 3 is supported",
            "convert the model with a current TensorFlow",
        )
    if model.SubgraphsLength() != 1:
        raise KilotuneError(
            "unsupported_model",
            f"the model has {model.SubgraphsLength()} subgraphs, but only one is supported",
            "export one function, without control flow (IF, WHILE) or further signatures",
        )
    graph = model.Subgraphs(0)
    buffers = _buffers(model)
    tensors = tuple(_tensor(graph.Tensors(i), i, buffers) for i in range(_count("tensors", graph.TensorsLength())))
    count = len(tensors)
    operators = tuple(
        _operator(model, graph.Operators(i), i, count) for i in range(_count("operators", graph.OperatorsLength()))
    )
    return TfliteModel(
        tensors=tensors,
        operators=operators,
        inputs=_indices(graph.InputsLength(), graph.Inputs, count, optional=False),
        outputs=_indices(graph.OutputsLength(), graph.Outputs, count, optional=False),
        metadata=_metadata(model, buffers),
        sha256=hashlib.sha256(content).digest(),
    )


def _count(what: str, n: int) -> int:
    if n > MAX_ITEMS:
        raise KilotuneError(
            "unsupported_model",
            f"the model declares {n} {what}, more than the limit of {MAX_ITEMS}",
            "if the model is not that large, the file is damaged: copy or convert it again",
        )
    return n


def _buffers(model: Any) -> tuple[npt.NDArray[np.uint8], ...]:
    result: list[npt.NDArray[np.uint8]] = []
    for i in range(_count("buffers", model.BuffersLength())):
        buffer = model.Buffers(i)
        # Views of the file, so overlapping buffers take no memory.
        data = buffer.DataAsNumpy() if buffer.DataLength() else np.zeros(0, np.uint8)
        result.append(np.asarray(data, dtype=np.uint8))
    return tuple(result)


def _tensor(tensor: Any, index: int, buffers: tuple[npt.NDArray[np.uint8], ...]) -> Tensor:
    name = (tensor.Name() or b"").decode("utf-8", "replace")[:256]
    if tensor.ShapeLength() > MAX_RANK:
        raise ValueError("rank")
    shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
    if any(n < 0 for n in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ValueError("shape")
    kind = int(tensor.Type())
    if tensor.Buffer() >= len(buffers):
        raise IndexError("buffer")
    scales, zero_points, dimension = _quantisation(tensor.Quantization(), index, name)
    return Tensor(
        index=index,
        name=name,
        shape=shape,
        dtype=_DTYPES.get(kind, f"type {kind}"),
        scales=scales,
        zero_points=zero_points,
        dimension=dimension,
        buffer=int(tensor.Buffer()),
        data=buffers[tensor.Buffer()],
    )


def _quantisation(q: Any, index: int, name: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], int]:
    if q is None or q.ScaleLength() == 0:
        return np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    scales = np.asarray(q.ScaleAsNumpy(), dtype=np.float32)
    zero_points = np.asarray(q.ZeroPointAsNumpy(), dtype=np.int64) if q.ZeroPointLength() else np.zeros(1, np.int64)
    if not np.all(np.isfinite(scales)) or np.any(scales <= 0):
        raise KilotuneError(
            "bad_model",
            f"tensor {index} '{name}' has a scale that is not a positive number",
            "the file is damaged, or calibration saw no data: convert it again with representative data",
        )
    return scales, zero_points, int(q.QuantizedDimension())


def _indices(n: int, get: Any, count: int, *, optional: bool) -> tuple[int, ...]:
    result = tuple(int(get(i)) for i in range(_count("inputs or outputs", n)))
    if any(i >= count or i < (-1 if optional else 0) for i in result):
        raise IndexError("tensor")
    return result


def _operator(model: Any, operator: Any, index: int, tensor_count: int) -> Operator:
    if operator.OpcodeIndex() >= model.OperatorCodesLength():
        raise IndexError("operator code")
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Old files have the number in the 8-bit field only, new ones in both.
    number = max(int(code.BuiltinCode()), int(code.DeprecatedBuiltinCode()))
    custom = code.CustomCode()
    opcode = _opcode_name(number) if custom is None else f"CUSTOM {custom.decode('utf-8', 'replace')[:64]}"
    return Operator(
        index=index,
        code=number,
        opcode=opcode,
        inputs=_indices(operator.InputsLength(), operator.Inputs, tensor_count, optional=True),
        outputs=_indices(operator.OutputsLength(), operator.Outputs, tensor_count, optional=False),
        options=_options(opcode, operator),
    )


def _opcode_name(number: int) -> str:
    import tflite

    for name, value in vars(tflite.BuiltinOperator).items():
        if value == number and not name.startswith("_"):
            return str(name)
    return f"operator number {number}"


def _options(opcode: str, operator: Any) -> Options:
    import tflite

    table = operator.BuiltinOptions()
    if table is None:
        return Options()
    reader = _READERS.get(opcode)
    if reader is None:
        return Options()
    kind, read_options = reader
    if operator.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, kind):
        raise ValueError("options")
    options = getattr(tflite, kind)()
    options.Init(table.Bytes, table.Pos)
    return read_options(options)


def _activation(options: Any) -> str:
    return _ACTIVATIONS.get(int(options.FusedActivationFunction()), "an unknown activation")


def _padding(options: Any) -> str:
    return {0: "SAME", 1: "VALID"}.get(int(options.Padding()), "unknown")


def _stride(options: Any) -> tuple[int, int]:
    return int(options.StrideH()), int(options.StrideW())


def _read_dense(o: Any) -> Options:
    return Options(activation=_activation(o), weights_format=int(o.WeightsFormat()))


def _read_convolution(o: Any) -> Options:
    dilation = int(o.DilationHFactor()), int(o.DilationWFactor())
    return Options(activation=_activation(o), padding=_padding(o), stride=_stride(o), dilation=dilation)


def _read_pool(o: Any) -> Options:
    window = int(o.FilterHeight()), int(o.FilterWidth())
    return Options(activation=_activation(o), padding=_padding(o), stride=_stride(o), window=window)


def _read_slice(o: Any) -> Options:
    masks = (o.BeginMask(), o.EndMask(), o.EllipsisMask(), o.NewAxisMask(), o.ShrinkAxisMask())
    return Options(masks=tuple(int(m) for m in masks))  # type: ignore[arg-type]


def _read_resize(o: Any) -> Options:
    return Options(align_corners=bool(o.AlignCorners()), half_pixel_centers=bool(o.HalfPixelCenters()))


def _read_lstm(o: Any) -> Options:
    return Options(
        activation=_activation(o),
        cell_limit=float(o.CellClip()),
        projection_limit=float(o.ProjClip()),
        time_major=bool(o.TimeMajor()),
    )


def _read_gather(o: Any) -> Options:
    return Options(axis=int(o.Axis()), batch=int(o.BatchDims()))


# Options table of the schema and its reader, by operator.
_READERS: dict[str, tuple[str, Callable[[Any], Options]]] = {
    "FULLY_CONNECTED": ("FullyConnectedOptions", _read_dense),
    "SOFTMAX": ("SoftmaxOptions", lambda o: Options(beta=float(o.Beta()))),
    "CONV_2D": ("Conv2DOptions", _read_convolution),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", _read_convolution),
    "TRANSPOSE_CONV": (
        "TransposeConvOptions",
        lambda o: Options(activation=_activation(o), padding=_padding(o), stride=_stride(o)),
    ),
    "AVERAGE_POOL_2D": ("Pool2DOptions", _read_pool),
    "MAX_POOL_2D": ("Pool2DOptions", _read_pool),
    "ADD": ("AddOptions", lambda o: Options(activation=_activation(o))),
    "SUB": ("SubOptions", lambda o: Options(activation=_activation(o))),
    "MUL": ("MulOptions", lambda o: Options(activation=_activation(o))),
    "CONCATENATION": (
        "ConcatenationOptions",
        lambda o: Options(activation=_activation(o), axis=int(o.Axis())),
    ),
    "PACK": ("PackOptions", lambda o: Options(axis=int(o.Axis()))),
    "UNPACK": ("UnpackOptions", lambda o: Options(axis=int(o.Axis()))),
    "GATHER": ("GatherOptions", _read_gather),
    "MIRROR_PAD": ("MirrorPadOptions", lambda o: Options(axis=int(o.Mode()))),
    "DEPTH_TO_SPACE": ("DepthToSpaceOptions", lambda o: Options(axis=int(o.BlockSize()))),
    "SPACE_TO_DEPTH": ("SpaceToDepthOptions", lambda o: Options(axis=int(o.BlockSize()))),
    "GELU": ("GeluOptions", lambda o: Options(approximate=bool(o.Approximate()))),
    "LEAKY_RELU": ("LeakyReluOptions", lambda o: Options(alpha=float(o.Alpha()))),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", _read_resize),
    "STRIDED_SLICE": ("StridedSliceOptions", _read_slice),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("UnidirectionalSequenceLSTMOptions", _read_lstm),
}


def _metadata(model: Any, buffers: tuple[npt.NDArray[np.uint8], ...]) -> tuple[tuple[str, bytes], ...]:
    entries: list[tuple[str, bytes]] = []
    total = 0
    for i in range(_count("metadata entries", model.MetadataLength())):
        entry = model.Metadata(i)
        if entry.Buffer() >= len(buffers):
            raise IndexError("metadata buffer")
        data = buffers[entry.Buffer()]
        total += data.size
        if total > MAX_METADATA_BYTES:
            raise KilotuneError(
                "unsupported_model",
                f"the model has more than {MAX_METADATA_BYTES} bytes of metadata",
                "remove the metadata, or convert the model again",
            )
        name = (entry.Name() or b"").decode("utf-8", "replace")[:256]
        entries.append((name, data.tobytes()))
    return tuple(entries)
