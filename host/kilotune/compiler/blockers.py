"""What keeps a model from running on a device: everything at once, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kilotune.errors import KilotuneError
from kilotune.tflite.model import Operator, TfliteModel

MOST = 12  # that are written out
WEIGHTED = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "UNIDIRECTIONAL_SEQUENCE_LSTM", "SVDF")
QUANTISE = "quantise it to int8: `kilotune quantize model --samples inputs.npy -o int8.tflite`"
FROM_FLOAT = "quantise the float model that it was made of to int8, with `kilotune quantize`"


@dataclass(slots=True)
class Blockers:
    """Collects what is not supported, so that the last of it is known as early as the first."""

    found: list[KilotuneError] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.found)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Errors `unsupported_model` are kept; others end the compilation."""
        try:
            yield
        except KilotuneError as error:
            if error.code != "unsupported_model":
                raise
            if all(error.message != known.message for known in self.found):
                self.found.append(error)

    def require_none(self) -> None:
        if len(self.found) == 1:
            raise self.found[0]
        if not self.found:
            return
        remedies: dict[str, list[str]] = {}
        for error in self.found[:MOST]:
            remedies.setdefault(error.hint, []).append(error.message)
        listed = "; ".join(f"{', '.join(messages)}: {hint}" for hint, messages in remedies.items())
        more = f"; and {len(self.found) - MOST} more" if len(self.found) > MOST else ""
        raise KilotuneError(
            "unsupported_model",
            f"{len(self.found)} things keep the model from running on a device. {listed}{more}",
            "change them all, or start from a model of supported operators: README lists them",
        )


def require_int8(model: TfliteModel) -> None:
    """Refuses a model whose layers all compute in another type, in one sentence instead of one for each layer."""
    layers = [op for op in model.operators if op.opcode in WEIGHTED and op.input(0) >= 0]
    kinds = {_kind(model, op) for op in layers}
    if len(kinds) != 1 or kinds == {"int8"}:
        return
    kind = kinds.pop()
    number = f"all of its {len(layers)} layers" if len(layers) > 1 else "its only layer"
    what = {
        "float32": (f"the model computes in float32, in {number}", QUANTISE),
        "hybrid": (f"the model has int8 weights but computes in float32, in {number} (dynamic range)", QUANTISE),
        "uint8": (
            f"the model is quantised to uint8, in {number}: TensorFlow 1's way, which microcontrollers dropped",
            FROM_FLOAT,
        ),
        "int16": (f"the model has int16 activations, in {number} (16x8 quantisation)", FROM_FLOAT),
    }.get(kind)
    if what is not None:
        raise KilotuneError("unsupported_model", *what)


def _kind(model: TfliteModel, operator: Operator) -> str:
    place = 2 if operator.opcode == "TRANSPOSE_CONV" and operator.input(2) >= 0 else 0
    kind = model.tensors[operator.input(place)].dtype
    weights = model.tensors[operator.input(1)].dtype if operator.input(1) >= 0 else kind
    return "hybrid" if kind == "float32" and weights in ("int8", "uint8") else kind
