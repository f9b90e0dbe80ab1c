"""Recurrent layers written out step by step: the converter makes loops of others, which no device here can run."""

from __future__ import annotations

from typing import Any

from kilotune.errors import KilotuneError

RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN")
REMEDY = "set unroll=True in LSTM and GRU layers, with a fixed number of steps, or write the loop out in the model"


def unrolled(model: Any, notes: list[str]) -> Any:
    """The Keras model with all its recurrent layers unrolled, also those inside other layers and models."""
    if not hasattr(model, "get_config") or not hasattr(model, "layers"):
        return model
    try:
        config = model.get_config()
    except NotImplementedError:  # a class of its own: a loop in it is refused once it is converted
        return model
    names = _unroll(config)
    if not names:
        return model
    opened = [list(x.shape) for x in getattr(model, "inputs", None) or [] if None in x.shape[1:]]
    if opened:
        raise KilotuneError(
            "bad_model",
            f"{', '.join(names)} cannot be unrolled: the model's input has the open shape {opened[0]}",
            f"give its input a fixed number of steps, such as keras.Input({_fixed(opened[0])})",
        )
    try:
        made = type(model).from_config(config)
        made.set_weights(model.get_weights())
    except Exception as error:
        raise KilotuneError(
            "bad_model", f"{', '.join(names)} cannot be unrolled: {_first_line(error)}", REMEDY
        ) from error
    notes.append(f"{', '.join(names)} unrolled, one step after the other")
    return made


def _fixed(shape: list[int | None]) -> str:
    return str(tuple(32 if n is None else n for n in shape[1:]))


def _unroll(config: Any) -> list[str]:
    """Changes a model's configuration; gives the names of the layers that were changed."""
    found = []
    parts: list[Any] = []
    if isinstance(config, dict):
        own = config.get("config")
        if config.get("class_name") in RECURRENT and isinstance(own, dict) and not own.get("unroll"):
            own["unroll"] = True
            found.append(str(own.get("name", config["class_name"])))
        parts = list(config.values())
    elif isinstance(config, (list, tuple)):
        parts = list(config)
    for part in parts:
        found += _unroll(part)
    return found


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else repr(error)


def may_loop(tf: Any, model: Any) -> bool:
    """Whether a Keras model has loops or branches before it is converted, which can make one operator of some."""
    if not getattr(model, "inputs", None):
        return True  # a class of its own: nobody knows
    inputs = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
    called = tf.function(lambda *x: model(x[0] if len(x) == 1 else list(x)))
    kinds = {op.type for op in called.get_concrete_function(*inputs).graph.get_operations()}
    calls = ("PartitionedCall", "If", "Case")  # what is called may loop
    return any(word in kind for kind in kinds for word in ("While", "TensorList", *calls))


def require_no_loop(content: bytes) -> None:
    """Raises KilotuneError `bad_model` for a float `.tflite` with a loop: TensorFlow's calibrator would end the whole
    process on it, without a word."""
    import tflite
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    numbers = {max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes}
    kinds = tflite.BuiltinOperator
    lists = any("TensorList" in _text(code.customCode) for code in model.operatorCodes)
    if len(model.subgraphs) > 1 or lists or not numbers.isdisjoint({kinds.WHILE, kinds.CALL, kinds.IF}):
        raise KilotuneError(
            "bad_model", "the model contains a loop or a branch, as recurrent layers that are not unrolled do", REMEDY
        )


def _text(name: bytes | str | None) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name or ""
