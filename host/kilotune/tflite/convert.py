"""Turns a Keras model into the int8 `.tflite` that everything else works on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kilotune.errors import KilotuneError
from kilotune.tflite.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


def quantize(model: Any, representative: NDArray[Any], *, output_scale: float | None = None) -> bytes:
    """Quantise to full int8: int8 input, output, weights and activations.

    `model`: a Keras model, or the path of a `.keras` or `.h5` file or a SavedModel folder.
    `representative`: typical inputs, shape (n, ...) as the model takes them; their range sets the scales.
    `output_scale`: scale of the int8 output, with zero point 0, instead of the one that fits the representative
    outputs. An autoencoder that is trained further needs the same range as its input.
    Raises KilotuneError `no_tensorflow`, `bad_model` or `bad_argument`.
    """
    tf = import_tensorflow()
    inputs = np.ascontiguousarray(representative, np.float32)
    if inputs.ndim < 2 or len(inputs) == 0 or not np.isfinite(inputs).all():
        raise KilotuneError(
            "bad_argument",
            f"representative inputs of shape {inputs.shape} cannot set the scales",
            "give finite float inputs, one row per sample",
        )

    def samples() -> Iterator[list[NDArray[np.float32]]]:
        for row in inputs:
            yield [row[None]]

    try:
        with quiet():  # both Keras and the converter print
            converter = _converter(tf, model)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = samples
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
            result = bytes(converter.convert())
    except (ValueError, TypeError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise KilotuneError(
            "bad_model",
            f"TensorFlow could not convert the model: {(str(error) or repr(error)).splitlines()[0]}",
            "check that the model loads in this TensorFlow and that the representative inputs have its shape",
        ) from error
    return result if output_scale is None else _with_output_scale(result, output_scale)


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


def _converter(tf: Any, model: Any) -> Any:
    if not isinstance(model, (str, os.PathLike)):
        return tf.lite.TFLiteConverter.from_keras_model(model)
    path = Path(model)
    if not path.exists():
        raise KilotuneError("bad_model", f"{path} does not exist", "give a .keras or .h5 file or a SavedModel folder")
    if path.is_dir():
        return tf.lite.TFLiteConverter.from_saved_model(str(path))
    return tf.lite.TFLiteConverter.from_keras_model(tf.keras.models.load_model(path, compile=False))


def _with_output_scale(content: bytes, scale: float) -> bytes:
    """Only the last requantisation depends on the output's scale, and it is computed when the model is loaded."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    quantisation = graph.tensors[graph.outputs[0]].quantization
    quantisation.scale, quantisation.zeroPoint = [scale], [0]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
