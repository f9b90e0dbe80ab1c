"""LSTM models and the outputs of TensorFlow Lite Micro for them, as kept in tests/conformance/lstm.

    pip install tflite-micro; python tests/conformance/lstm_models.py

writes the models that are built here and the outputs of all. The others, keras_*.tflite, are those of convert.py
with the same names: TensorFlow 2.15.1 made them, since 2.21 turns LSTM layers into loops, which its calibrator does
not survive.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.support.networks import Network

FOLDER = Path(__file__).with_name("lstm")
SAMPLES = 6


def build() -> dict[str, bytes]:
    """Sequences long and short, odd widths, cell states of all scales, limits, gates that saturate."""

    def alone(seed: int, steps: int, inputs: int, units: int, **options: Any) -> bytes:
        net = Network(seed=seed)
        return net.finish(net.lstm(net.source(steps, inputs), units, **options))

    return {
        "one_step": alone(1, 1, 3, 5),
        "one_unit": alone(2, 6, 1, 1),
        "wide": alone(3, 8, 7, 13, cell_power=-12),
        "long": alone(4, 40, 3, 8, spread=2.0),
        "saturated": alone(5, 20, 5, 6, cell_power=-12, spread=6.0),
        "limited": alone(6, 12, 5, 7, cell_power=-10, spread=2.0, limit=1.0),
        "small_cells": alone(7, 12, 5, 7, cell_power=-16, spread=0.3, limit=0.0),
        "large_cells": alone(8, 30, 4, 5, cell_power=-9, spread=4.0, limit=0.0),
    }


def models() -> dict[str, bytes]:
    """The models in the folder."""
    return {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("*.tflite"))}


def inputs_of(model: bytes) -> npt.NDArray[np.int8]:
    """(samples, ...) of the model's input."""
    from kilotune.tflite import model as tflite_model

    read = tflite_model.read(model)
    shape = read.tensors[read.inputs[0]].shape
    return np.random.default_rng(7).integers(-128, 128, (SAMPLES, *shape)).astype(np.int8)


def micro_outputs(model: bytes) -> npt.NDArray[np.int8]:
    """(samples, outputs), each sample from an empty state."""
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(model)
    rows = []
    for sample in inputs_of(model):
        interpreter.reset()
        interpreter.set_input(sample, 0)
        interpreter.invoke()
        rows.append(interpreter.get_output(0).reshape(-1).copy())
    return np.stack(rows)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, model in build().items():
        (FOLDER / f"{name}.tflite").write_bytes(model)
    np.savez_compressed(FOLDER / "outputs.npz", **{name: micro_outputs(model) for name, model in models().items()})


if __name__ == "__main__":
    main()
