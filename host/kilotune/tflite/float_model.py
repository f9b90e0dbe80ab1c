"""A float or hybrid `.tflite` and its quantisation to int8, by TensorFlow's own calibrator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from kilotune.errors import KilotuneError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

# Numbers of schema.fbs.
FLOAT32, FLOAT16, UINT8, INT8 = 0, 1, 3, 9
DEQUANTIZE = 6
_TYPES = {INT8: "i1", UINT8: "u1", FLOAT16: "<f2"}


def in_float(tf: Any, content: bytes) -> bytes:
    """The model with float32 weights where they are int8 or float16 and the model computes in float32, and with all
    shapes for a batch of 1.

    Raises KilotuneError `bad_argument` for a model that is quantised already, or has several inputs.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    if len(model.subgraphs) != 1 or len(model.subgraphs[0].inputs) != 1:
        raise KilotuneError(
            "bad_argument",
            f"the model has {len(model.subgraphs)} subgraphs and {len(model.subgraphs[0].inputs)} inputs",
            "models with one input and without loops can be quantised: unroll recurrent layers, and make one input",
        )
    graph = model.subgraphs[0]
    kind = graph.tensors[graph.inputs[0]].type
    if kind in (INT8, UINT8):
        raise KilotuneError(
            "bad_argument",
            f"the model is quantised to {'int8' if kind == INT8 else 'uint8'} already",
            "compile it as it is" if kind == INT8 else "give the float model that it was made of",
        )
    _restore_weights(model)
    opened = any(t.shapeSignature is not None and -1 in list(t.shapeSignature) for t in graph.tensors)
    plain = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    if not opened:
        return plain
    for index, shape in _shapes(tf, plain).items():
        if index < len(graph.tensors):  # the runtime has tensors of its own after those of the file
            graph.tensors[index].shape = shape
    for tensor in graph.tensors:
        tensor.shapeSignature = None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _shapes(tf: Any, content: bytes) -> dict[int, list[int]]:
    """The shape of each tensor once the model has run with a batch of 1: a file leaves open what depends on it."""
    engine = tf.lite.Interpreter(model_content=content, experimental_preserve_all_tensors=True, num_threads=1)
    source = engine.get_input_details()[0]
    engine.resize_tensor_input(source["index"], [1, *(int(n) for n in source["shape"][1:])])
    engine.allocate_tensors()
    engine.invoke()
    return {int(d["index"]): [int(n) for n in d["shape"]] for d in engine.get_tensor_details()}


def _restore_weights(model: Any) -> None:
    graph = model.subgraphs[0]
    numbers = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    kept = []
    for operator in graph.operators:
        inputs = [graph.tensors[i] for i in operator.inputs if i >= 0]
        if inputs and numbers[operator.opcodeIndex] == DEQUANTIZE and _has_data(model, inputs[0]):
            _store(model, graph.tensors[operator.outputs[0]], _real_values(model, inputs[0]))
            continue
        kept.append(operator)
        if not inputs or inputs[0].type != FLOAT32:
            continue
        for tensor in inputs[1:]:
            if tensor.type in (INT8, UINT8) and tensor.quantization is not None and _has_data(model, tensor):
                _store(model, tensor, _real_values(model, tensor))
    graph.operators = kept


def _has_data(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _real_values(model: Any, tensor: Any) -> NDArray[np.float32]:
    data = np.asarray(model.buffers[tensor.buffer].data, np.uint8).tobytes()
    values = np.frombuffer(data, _TYPES[tensor.type]).reshape(tensor.shape).astype(np.float32)
    q = tensor.quantization
    if q is None or q.scale is None or len(q.scale) == 0:
        return values
    shape = [1] * values.ndim
    if len(q.scale) > 1:
        shape[q.quantizedDimension] = -1
    zero = np.zeros(1) if q.zeroPoint is None else np.asarray(q.zeroPoint)
    centred = values - zero.reshape(shape if zero.size > 1 else -1)
    return np.asarray(centred * np.asarray(q.scale, np.float32).reshape(shape), np.float32)


def _store(model: Any, tensor: Any, values: NDArray[np.float32]) -> None:
    """In a buffer of its own; another tensor may share the old one."""
    buffer = type(model.buffers[0])()
    buffer.data = np.frombuffer(np.ascontiguousarray(values, "<f4").tobytes(), np.uint8)
    model.buffers.append(buffer)
    old = tensor.buffer
    tensor.buffer, tensor.type, tensor.quantization = len(model.buffers) - 1, FLOAT32, None
    if all(t.buffer != old for t in model.subgraphs[0].tensors):
        model.buffers[old].data = None


def quantised(tf: Any, content: bytes, rows: Sequence[NDArray[np.float32]]) -> bytes:
    """int8 input, output, weights and activations; `rows`: samples in the model's shape."""
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    def samples() -> Iterator[list[NDArray[np.float32]]]:
        for row in rows:
            yield [row]

    return bytes(Calibrator(content).calibrate_and_quantize(samples, tf.int8, tf.int8, False, tf.int8, tf.int32, False))


def shaped(tf: Any, content: bytes, samples: NDArray[np.float32], *, channels_first: bool) -> list[NDArray[np.float32]]:
    """Each sample in the shape of the model's input, in which channels are last.

    Samples have that shape or are flat. `channels_first`: the model was converted from one whose channels come first,
    as in PyTorch and ONNX, and so do the samples'.
    """
    batch, *rest = (int(n) for n in interpreter(tf, content).get_input_details()[0]["shape"])
    shape = tuple(rest)
    if batch != 1:
        raise KilotuneError(
            "bad_argument", f"the model takes {batch} samples at once", "convert or export it with a batch of 1"
        )
    channels_first = channels_first and len(shape) > 1
    first = (*shape[-1:], *shape[:-1]) if channels_first else shape
    given = samples.shape[1:]
    if given not in (shape, first, (math.prod(shape),)):
        raise KilotuneError(
            "bad_argument",
            f"samples of shape {list(given)} do not fit the model's input {list(first)}",
            "give one row per sample, each as the model takes it",
        )
    if given != shape or first == shape:  # where both are the same numbers, the samples are as the model took them
        samples = samples.reshape(len(samples), *first)
        samples = np.moveaxis(samples, 1, -1) if channels_first else samples
    return [np.ascontiguousarray(sample[None], np.float32) for sample in samples]


def outputs(tf: Any, content: bytes, rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """(n, values): what a model makes of the rows, in real units."""
    engine = interpreter(tf, content)
    source, made = engine.get_input_details()[0], engine.get_output_details()
    found = []
    for row in rows:
        engine.set_tensor(source["index"], _quantise(row, source))
        engine.invoke()
        found.append(np.concatenate([_real(engine.get_tensor(d["index"]), d).reshape(-1) for d in made]))
    return np.array(found)


def interpreter(tf: Any, content: bytes) -> Any:
    kinds = tf.lite.experimental.OpResolverType
    engine = tf.lite.Interpreter(
        model_content=content, experimental_op_resolver_type=kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES, num_threads=1
    )
    engine.allocate_tensors()
    return engine


def _quantise(row: NDArray[np.float32], details: Any) -> NDArray[Any]:
    scale, zero = details["quantization"]
    if details["dtype"] != np.int8:
        return row
    return np.asarray(np.clip(np.rint(row / scale) + zero, -128, 127), np.int8)


def _real(values: NDArray[Any], details: Any) -> NDArray[np.float64]:
    scale, zero = details["quantization"]
    wide: NDArray[np.float64] = values.astype(np.float64)
    return np.asarray((wide - zero) * scale) if details["dtype"] == np.int8 else wide
