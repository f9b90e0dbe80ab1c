"""The oracle, as a process of its own: tflite-runtime 2.14 with its reference kernels, one sample at a time.

    python tests/conformance/oracle.py model.tflite inputs.npy out.npz [--all-tensors]

`inputs` is (n, ...) in the model's input type. `out` holds `output` (n, ...), and with --all-tensors also
`tensor_<index>` (n, ...) for every activation of the file.
"""

from __future__ import annotations

import argparse
import contextlib
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
        raise SystemExit(f"inputs are {inputs.dtype}, the model takes {np.dtype(source['dtype'])}")
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--all-tensors", action="store_true")
    arguments = parser.parse_args()
    try:
        result = run(arguments.model.read_bytes(), np.load(arguments.inputs), arguments.all_tensors)
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from error
    np.savez(arguments.out, **result)


if __name__ == "__main__":
    main()
