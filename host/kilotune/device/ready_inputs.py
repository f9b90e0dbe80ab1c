"""Ready model inputs over the wire: in one message if they fit, else in pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kilotune.device.learning import TrainOptions, require_classes, require_state
from kilotune.device.results import BenchResult
from kilotune.errors import KilotuneError
from kilotune.link import messages
from kilotune.link.cbor import bad_message
from kilotune.link.client import Client
from kilotune.link.messages import BenchKind, Kind
from kilotune.link.pace import Pace
from kilotune.link.status import RefusedError, local_error
from kilotune.terms import Loss

_BENCH_LEARNING_RATE = 2.0**-10


class ReadyInputs:
    """infer, train and bench of one model on one device."""

    def __init__(self, client: Client, hello: messages.Hello, model: messages.Model) -> None:
        self._client = client
        self._chunk = hello.chunk
        self._model = model

    def infer(self, inputs: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """int8 (n, inputs) to int8 (n, outputs)."""
        rows = self._rows(inputs, self._model.input_bytes, "inputs")
        outputs = b"".join(self._infer_row(row.tobytes()) for row in rows)
        return np.frombuffer(outputs, np.int8).reshape(len(rows), self._model.output_bytes).copy()

    def _infer_row(self, row: bytes) -> bytes:
        size = self._model.output_bytes
        request = messages.InferRequest(input=self._send_input(row, self._chunk))
        answer = self._client.ask(messages.Output, Kind.infer, request)
        output = b""
        pace = Pace(self._client.clock, self._client.timeout_s, "reading an output")
        while True:
            pace.require(len(output))
            if answer.output_bytes != size or answer.offset != len(output):
                raise bad_message("an output of the wrong size")
            if len(answer.output) != min(self._chunk, size - len(output)):
                raise bad_message("an output in pieces of the wrong size")
            output += answer.output
            if len(output) == size:
                return output
            answer = self._client.ask(messages.Output, Kind.output_read, messages.OutputReadRequest(offset=len(output)))

    def _send_input(self, row: bytes, room: int) -> bytes:
        """The data for the request: the row, or nothing after it was written in pieces."""
        if len(row) <= room:
            return row
        self._write_input(row)
        return b""

    def _write_input(self, row: bytes) -> None:
        pace = Pace(self._client.clock, self._client.timeout_s, "sending an input")
        for at in range(0, len(row), self._chunk):
            pace.require(at)
            piece = messages.InputWriteRequest(offset=at, data=row[at : at + self._chunk])
            self._client.tell(Kind.input_write, piece)

    def train(
        self,
        inputs: npt.NDArray[np.int8],
        labels: npt.NDArray[Any] | Sequence[int] | None,
        steps: int,
        config: messages.TrainConfig,
        done: Callable[[int], None],
    ) -> None:
        """Runs step i on row i modulo n."""
        if self._model.loss == 0:
            raise local_error("not_trainable")
        rows = self._rows(inputs, self._model.input_bytes, "inputs")
        require_state(self._model, config.momentum_q15, config.accumulate)
        classes, targets = self._targets(labels, len(rows))
        if steps < 0 or (steps and not len(rows)):
            raise KilotuneError("bad_argument", f"{steps} steps on {len(rows)} inputs", "give at least one input")
        self._client.tell(Kind.train_begin, config)
        for step in range(steps):
            i = step % len(rows)
            target = b"" if targets is None else targets[i].tobytes()
            row = self._send_input(rows[i].tobytes(), self._chunk - len(target) - 3)
            request = messages.TrainStepRequest(step=step, label=int(classes[i]), input=row, target=target)
            answer = self._client.ask(messages.StepsDone, Kind.train_step, request)
            if answer.steps != step + 1:
                raise bad_message(f"it has done {answer.steps} steps after step {step + 1}")
            done(step + 1)

    def _targets(
        self, labels: npt.NDArray[Any] | Sequence[int] | None, n: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8] | None]:
        """(classes, regression targets or None) for n rows, by the model's loss."""
        none = np.zeros(n, np.int64)
        loss = self._model.loss
        if loss == Loss.regression.number:
            if labels is None:
                raise KilotuneError("bad_argument", "the model's loss needs a target for every input", "give labels")
            targets = self._rows(np.asarray(labels), self._model.output_bytes, "labels")
            if self._model.output_bytes > self._chunk - 3:
                raise local_error("unavailable", "the model's targets do not fit a message of this device")
            if len(targets) != n:
                raise _counts_differ(len(targets), n)
            return none, targets
        if loss == Loss.classification.number:
            if labels is None:
                raise KilotuneError("bad_argument", "a classifier needs one class per row", "give labels")
            classes = np.asarray(labels)
            if classes.ndim != 1 or not np.issubdtype(classes.dtype, np.integer):
                raise KilotuneError(
                    "bad_argument", "labels are not an array (n,) of whole numbers", "give the class of each input"
                )
            if len(classes) != n:
                raise _counts_differ(len(classes), n)
            require_classes(self._model, classes)
            return classes.astype(np.int64), None
        if labels is not None:
            raise KilotuneError(
                "bad_argument", "the model is trained to reconstruct its input, so it takes no labels", "omit them"
            )
        return none, None

    def bench(self, runs: int, input_row: npt.NDArray[np.int8] | None) -> BenchResult:
        if not 1 <= runs <= 1000:
            raise KilotuneError("bad_argument", f"{runs} runs", "1 to 1000 are possible")
        size = self._model.input_bytes
        row = np.arange(size, dtype=np.int64).astype(np.int8) if input_row is None else input_row
        data = self._rows(np.asarray(row).reshape(1, -1), size, "the input")[0].tobytes()
        inference, inference_ms = self._count(data, BenchKind.inference, runs)
        if self._model.loss == 0:
            return BenchResult(inference, None, inference_ms, None, runs)
        self._client.tell(Kind.train_begin, TrainOptions().train_config(_BENCH_LEARNING_RATE))
        try:
            step, step_ms = self._count(data, BenchKind.step, runs)
        finally:
            self._restore()
        return BenchResult(inference, step, inference_ms, step_ms, runs)

    def _restore(self) -> None:
        try:
            self._client.ask(messages.Checkpoint, Kind.restore)
        except RefusedError as error:
            raise KilotuneError(error.code, f"after measuring, {error.message}", "reset the device") from error

    def _count(self, data: bytes, what: BenchKind, runs: int) -> tuple[int | None, float]:
        """(instructions, milliseconds) of one run"""
        self._write_input(data)
        request = messages.BenchRequest(what=what, count=runs, label=0)
        total = self._client.ask(messages.BenchCount, Kind.bench, request)
        return total.instructions // runs if total.instructions else None, total.elapsed_ms / runs

    @staticmethod
    def _rows(values: npt.NDArray[Any], size: int, name: str) -> npt.NDArray[np.int8]:
        if values.dtype != np.int8 or values.ndim < 2 or int(np.prod(values.shape[1:])) != size:
            raise KilotuneError(
                "bad_shape",
                f"{name} are {values.dtype} {values.shape}, but the model takes int8 (n, {size})",
                "quantise and reshape them",
            )
        return np.ascontiguousarray(values.reshape(len(values), size))


def _counts_differ(labels: int, rows: int) -> KilotuneError:
    return KilotuneError("bad_argument", f"{labels} labels for {rows} inputs", "give one label per row")
