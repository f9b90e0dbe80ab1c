"""Turns a model of another tool into the int8 `.tflite` that everything else works on."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kilotune.errors import KilotuneError
from kilotune.tflite import environments, float_model, unrolling
from kilotune.tflite import model as tflite_model
from kilotune.tflite.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

COMPARED = 64  # samples whose outputs are compared
_TRIES = 5  # of a conversion
ONNX = environments.Environment("onnx2tf", ("onnx2tf>=1.28,<1.30",))
PYTORCH = (".pt", ".pth", ".pkl", ".ckpt", ".safetensors")


@dataclass(frozen=True, slots=True)
class Quantised:
    """An int8 model, and what the float one and it make of the same samples, (n, values) in real units."""

    content: bytes
    float_bytes: int
    float_outputs: NDArray[np.float64]
    outputs: NDArray[np.float64]
    notes: tuple[str, ...]  # what was changed besides


def quantize(model: Any, representative: NDArray[Any], *, output_scale: float | None = None) -> bytes:
    """Quantise to full int8: int8 input, output, weights and activations; the batch is 1.

    `model`: a Keras model, or the path of a `.keras` or `.h5` file, a SavedModel folder, a float or hybrid `.tflite`,
    or an `.onnx` file, which onnx2tf converts in an environment of its own.
    `representative`: typical inputs, shape (n, ...) as the model takes them; their range sets the scales.
    `output_scale`: scale of the int8 output, with zero point 0, instead of the one that fits the representative
    outputs. An autoencoder that is trained further needs the same range as its input.
    Raises KilotuneError `no_tensorflow`, `no_converter`, `bad_model` or `bad_argument`.
    """
    return _quantised(model, representative, output_scale, compares=False).content


def quantize_and_compare(model: Any, representative: NDArray[Any]) -> Quantised:
    """`quantize`, and what it changes."""
    return _quantised(model, representative, None, compares=True)


def _quantised(model: Any, representative: NDArray[Any], output_scale: float | None, *, compares: bool) -> Quantised:
    inputs = np.ascontiguousarray(representative, np.float32)
    if inputs.ndim < 2 or len(inputs) == 0 or not np.isfinite(inputs).all():
        raise KilotuneError(
            "bad_argument",
            f"representative inputs of shape {inputs.shape} cannot set the scales",
            "give finite float inputs, one row per sample",
        )
    source = Path(model) if isinstance(model, (str, os.PathLike)) else None
    if source is not None and source.suffix.lower() in PYTORCH:
        raise _no_model(source)
    tf = import_tensorflow()
    if source is not None and not source.exists():
        raise KilotuneError(
            "bad_model",
            f"{source} does not exist",
            "give a .keras, .h5, .tflite or .onnx file or a SavedModel folder",
        )
    try:
        with quiet():  # Keras, the converter and its calibrator print
            if source is not None and source.suffix.lower() in (".tflite", ".onnx"):
                made = _of_float(tf, source, inputs, compares=compares)
            else:
                made = _of_keras(tf, _loaded(tf, model, source), inputs, compares=compares)
    except KilotuneError:
        raise
    except Exception as error:
        raise _explained(error) from error
    if output_scale is None:
        return made
    return Quantised(_with_output_scale(made.content, output_scale), made.float_bytes, *_NOTHING, made.notes)


_NOTHING = (np.zeros((0, 0)), np.zeros((0, 0)))


def _no_model(source: Path) -> KilotuneError:
    return KilotuneError(
        "bad_argument",
        f"{source.name} holds weights of PyTorch, without the model's code",
        "export the model with torch.onnx.export and give the .onnx file (models/README.md has the lines)",
    )


# --- a .tflite or .onnx -----------------------------------------------------------------------------


def _of_float(tf: Any, source: Path, inputs: NDArray[np.float32], *, compares: bool) -> Quantised:
    is_onnx = source.suffix.lower() == ".onnx"
    content = _of_onnx(source) if is_onnx else source.read_bytes()
    if content[4:8] != b"TFL3":
        raise KilotuneError("bad_model", f"{source.name} is not a .tflite file", "copy or convert it again")
    plain = float_model.in_float(tf, content)
    rows = float_model.shaped(tf, plain, inputs, channels_first=is_onnx)
    made = float_model.quantised(tf, plain, rows)
    return _compared(tf, plain, made, rows, (), compares=compares)


def _of_onnx(source: Path) -> bytes:
    """A float `.tflite`, with channels last."""
    python = ONNX.python()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), "-m", "onnx2tf", "-i", str(source.resolve()), "-o", folder, "-b", "1", "-n"]
        hint = "check the model with onnx.checker; simplify it with onnxsim, or export it with a fixed batch of 1"
        environments.run(
            command, environments.RUN_S, f"onnx2tf cannot convert {source.name}", hint, folder=Path(folder)
        )
        made = sorted(Path(folder).glob("*_float32.tflite"))
        if not made:
            raise KilotuneError("no_converter", f"onnx2tf made no .tflite of {source.name}", hint)
        return made[0].read_bytes()


# --- Keras and SavedModel ---------------------------------------------------------------------------


def _loaded(tf: Any, model: Any, source: Path | None) -> Any:
    """A Keras model, or the path of a SavedModel."""
    if source is None:
        return model
    return source if source.is_dir() else tf.keras.models.load_model(source, compile=False)


def _of_keras(tf: Any, model: Any, inputs: NDArray[np.float32], *, compares: bool) -> Quantised:
    notes: list[str] = []
    if not isinstance(model, Path):
        model = _with_one_batch(tf, unrolling.unrolled(model, notes), inputs)

    def samples() -> Iterator[list[NDArray[np.float32]]]:
        for row in inputs:
            yield [row[None]]

    if isinstance(model, Path) or unrolling.may_loop(tf, model):
        unrolling.require_no_loop(bytes(_converter(tf, model).convert()))

    def converted() -> bytes:
        converter = _converter(tf, model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
        return bytes(converter.convert())

    content = _most_in_int8(converted)
    if not compares:
        return Quantised(content, 0, *_NOTHING, tuple(notes))
    plain = bytes(_converter(tf, model).convert())
    return _compared(tf, plain, content, [row[None] for row in inputs], tuple(notes), compares=True)


def _most_in_int8(converted: Callable[[], bytes]) -> bytes:
    """TensorFlow 2.21 now and then leaves an operator of an unrolled network in float: it is asked again."""
    best, fewest = b"", 1 << 30
    for _ in range(_TRIES):
        content = converted()
        try:
            floats = sum(t.dtype == "float32" for t in tflite_model.read(content).tensors)
        except KilotuneError:  # `compile` says what is the matter with it
            return content
        if floats < fewest:
            best, fewest = content, floats
        if floats == 0:
            break
    return best


def _converter(tf: Any, model: Any) -> Any:
    if isinstance(model, Path):
        return tf.lite.TFLiteConverter.from_saved_model(str(model))
    return tf.lite.TFLiteConverter.from_keras_model(model)


def _with_one_batch(tf: Any, model: Any, inputs: NDArray[np.float32]) -> Any:
    """The model with a batch of 1: an open one leaves computed shapes behind. Checks the samples' shape."""
    sources = getattr(model, "inputs", None) or []
    if len(sources) != 1:
        return model
    shape = tuple(sources[0].shape)
    if len(shape) != inputs.ndim or any(a not in (None, b) for a, b in zip(shape[1:], inputs.shape[1:], strict=True)):
        raise KilotuneError(
            "bad_argument",
            f"samples of shape {list(inputs.shape[1:])} do not fit the model's input {list(shape[1:])}",
            "give one row per sample, each as the model takes it",
        )
    if shape[0] == 1:
        return model
    one = tf.keras.Input(batch_shape=(1, *inputs.shape[1:]), dtype=sources[0].dtype)
    return tf.keras.Model(one, model(one))


# --- what has changed -------------------------------------------------------------------------------


def _compared(
    tf: Any, plain: bytes, content: bytes, rows: list[NDArray[np.float32]], notes: tuple[str, ...], *, compares: bool
) -> Quantised:
    if not compares:
        return Quantised(content, len(plain), *_NOTHING, notes)
    some = rows[:COMPARED]
    return Quantised(
        content,
        len(plain),
        float_model.outputs(tf, plain, some),
        float_model.outputs(tf, content, some),
        notes,
    )


def _explained(error: Exception) -> KilotuneError:
    """A converter's exception in one sentence."""
    text = str(error).strip() or repr(error)
    if any(word in text for word in ("TensorList", "tf.While")):
        return KilotuneError(
            "bad_model",
            "TensorFlow could not convert the model: it contains a loop, as LSTM and GRU layers do",
            unrolling.REMEDY,
        )
    line = next((x.strip() for x in text.splitlines() if "rror" in x), text.splitlines()[0])
    return KilotuneError(
        "bad_model",
        f"TensorFlow could not convert the model: {line[:300]}",
        "check that the model loads in this TensorFlow and that the representative inputs have its shape",
    )


def import_tensorflow() -> Any:
    """The tensorflow module with its log messages off; raises KilotuneError `no_tensorflow`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with quiet():
            import tensorflow
    except ImportError as error:
        raise KilotuneError(
            "no_tensorflow",
            "quantising needs TensorFlow, which is not installed",
            "pip install kilotune[tensorflow]",
        ) from error
    return tensorflow


def _with_output_scale(content: bytes, scale: float) -> bytes:
    """Only the last requantisation depends on the output's scale, and it is computed when the model is loaded."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    quantisation = graph.tensors[graph.outputs[0]].quantization
    quantisation.scale, quantisation.zeroPoint = [scale], [0]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
