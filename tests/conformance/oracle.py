"""The oracle, as a separate process: tflite-runtime 2.14 with its reference kernels, one sample at a time.

    python tests/conformance/oracle.py model.tflite inputs.npy out.npz [--all-tensors]
    python tests/conformance/oracle.py --serve

`inputs` is (n, ...) in the model's input type. `out` holds `output` (n, ...), and with --all-tensors also
`tensor_<index>` (n, ...) for every activation of the file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def run(model: bytes, inputs: npt.NDArray[Any], all_tensors: bool) -> dict[str, npt.NDArray[Any]]:
    from tflite_runtime.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=model,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=all_tensors,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    source, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if inputs.dtype != source["dtype"]:
        raise ValueError(f"inputs are {inputs.dtype}, the model takes {np.dtype(source['dtype'])}")
    wanted = {"output": output["index"]}
    if all_tensors:
        wanted |= {f"tensor_{t['index']}": t["index"] for t in interpreter.get_tensor_details()}
    rows: dict[str, list[npt.NDArray[Any]]] = {key: [] for key in wanted}
    for sample in inputs:
        interpreter.reset_all_variables()  # each sample finds an empty state, as on the device
        interpreter.set_tensor(source["index"], sample.reshape(source["shape"]))
        interpreter.invoke()
        for key, index in wanted.items():
            with contextlib.suppress(ValueError):  # a scratch tensor without data
                rows[key].append(interpreter.get_tensor(index).copy())
    return {key: np.stack(values) for key, values in rows.items() if len(values) == len(inputs)}


def answered(model: Path, inputs: Path, out: Path, all_tensors: bool) -> str:
    """Writes `out`; returns what the runtime says if it refuses, else nothing."""
    try:
        result = run(model.read_bytes(), np.load(inputs), all_tensors)
    except (ValueError, RuntimeError) as error:
        return str(error) or type(error).__name__
    np.savez(out, **result)
    return ""


def serve() -> None:
    """Questions as lines of JSON, until there are no more: {"folder": ..., "all_tensors": ...} -> {"error": ...}."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what the runtime prints is no answer
    for line in sys.stdin:
        question = json.loads(line)
        folder = Path(question["folder"])
        model, inputs, out = (folder / name for name in ("model.tflite", "inputs.npy", "out.npz"))
        error = answered(model, inputs, out, question["all_tensors"])
        os.write(answers, (json.dumps({"error": error.strip()}) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("inputs", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--all-tensors", action="store_true")
    parser.add_argument("--serve", action="store_true", help="answer questions from standard input instead")
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    if arguments.out is None:
        parser.error("name model, inputs and out, or --serve")
    error = answered(arguments.model, arguments.inputs, arguments.out, arguments.all_tensors)
    if error:
        raise SystemExit(error)


if __name__ == "__main__":
    main()
