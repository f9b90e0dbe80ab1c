"""`Device`: learn, score, infer, train, pull and push adapters, on any target."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kilotune.device import claims, learning
from kilotune.device.learning import LearnOptions, TrainOptions
from kilotune.device.model_swap import swap_model
from kilotune.device.ready_inputs import ReadyInputs
from kilotune.device.results import (
    BenchResult,
    DeviceInfo,
    ProgressCall,
    Scores,
    device_info,
    tell,
)
from kilotune.device.samples import Samples, Segment, to_features, to_segments
from kilotune.errors import KilotuneError
from kilotune.image.base_profile import LifeSettings
from kilotune.image.calibration_block import CalibrationHead
from kilotune.link import messages, transfer
from kilotune.link.auth import Key
from kilotune.link.cbor import bad_message
from kilotune.link.client import Client
from kilotune.link.clock import SYSTEM_CLOCK, Clock
from kilotune.link.keys import KeyRing
from kilotune.link.messages import REQUESTS, Access, Kind, WindowResult
from kilotune.link.status import RefusedError, local_error, no_model
from kilotune.link.stream import SampleStream, StreamSpec
from kilotune.link.transport import DEFAULT_TIMEOUT_S, Transport
from kilotune.terms import Acknowledgement, Apart, Guard, Lock, Phase, Scorer, StreamKind, named

if TYPE_CHECKING:
    from kilotune.adapters.adapter import Adapter
    from kilotune.image.image import Image

RATE_TOLERANCE = 0.01  # the same as on the device
_PHASE_S, _PHASE_POLL_S = 600.0, 0.05  # that a phase of its own takes at most, and between looks
_STREAM_BYTES = 1 << 16  # sent between two calls of `progress`
_RESTARTS = 5  # attempts, until a locked device confirms that it restarts

ResultCall = Callable[[WindowResult], None]


class Device:
    """A device with an open session; use it with `with`. Every wait is bounded by `timeout_s`.

    `image` gives names to what is pulled, and must be the one on the device. `keys`: where to look for the key of a
    locked device; None: in the user's key folder. `insecure`: accept a device that claims to have no key, or another
    one, although its key is here. `clock` and `rng`: for tests of waits and sessions.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        image: Image | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        keys: KeyRing | None = None,
        insecure: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self._client = Client(transport, timeout_s=timeout_s, clock=clock, rng=rng)
        self._client.barred = self._barred
        self._keys = keys if keys is not None else KeyRing()
        self._insecure = insecure
        self._no_key: KilotuneError | None = None  # why this session has none on a locked device
        self._image = image
        self._stream = 0
        try:
            self._greet(self._client.open())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; anything not committed stays in the device's RAM."""
        self._client.close()

    # --- what it is ------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        return self._client

    @property
    def image(self) -> Image | None:
        return self._image

    def info(self) -> DeviceInfo:
        """The device and its model; none of it changes while connected."""
        return device_info(self._client.transport.name, self._hello, self._model)

    def require_model(self) -> messages.Model:
        """The running model; raises RefusedError with the device's own reason if there is no usable one."""
        if self._model is None:
            raise no_model(self._hello.opened)
        return self._model

    def status(self) -> messages.DeviceStatus:
        """Current phase, progress, checkpoint, counters and memory."""
        return self._client.ask(messages.DeviceStatus, Kind.status)

    def life(self) -> messages.Life:
        """What a device that goes on learning knows of time: age, phases, drifts, alarm."""
        return self._client.ask(messages.Life, Kind.life)

    def acknowledge(self, what: Acknowledgement | str) -> messages.Checkpoint:
        """Answers an alarm; committed at once, and undone by `rollback`.

        "normal": the machine is like this from now on. For as many records as a first phase has, the device learns from
        what is not more than 1 log2 worse than the alarm; then it trains, and takes its anchor anew. "fault": it was
        one; what was recorded since the last phase leaves the stored windows. Raises KilotuneError `wrong_state` where
        there is no alarm to accept, or the device learns once.
        """
        self.require_model()
        self.settled_phase()
        request = messages.AcknowledgeRequest(what=named(Acknowledgement, what))
        with self._room_told(), self._life_told("there is no alarm, or one is being learned as normal already"):
            return self._client.ask(messages.Checkpoint, Kind.acknowledge, request)

    def set_alarm_rule(self, alarmed: int, of: int) -> messages.Checkpoint:
        """From now on so many alarmed records, of `of` (at most 8) in a row, are an alarm; committed at once."""
        self.require_model()
        LifeSettings(alarmed=alarmed, of=of)
        self.settled_phase()
        with self._room_told(), self._life_told("it is in its first phase"):
            return self._client.ask(messages.Checkpoint, Kind.alarm_rule, messages.AlarmRule(alarmed=alarmed, of=of))

    def _greet(self, hello: messages.Hello, *, just_unlocked: bool = False) -> None:
        """Authenticates if the key is here, then asks which model runs. From then on no answer counts without a tag."""
        self._hello = hello
        self._no_key = None
        if hello.lock is not Lock.none:
            self._authenticate()
        elif not (just_unlocked or self._insecure):
            self._keys.require_unlocked(hello.unique_id)
        self._model = None if hello.opened else self._client.ask(messages.Model, Kind.model)
        if self._model is None and self._client.authenticated:
            self.status()  # its tag is the proof
        claims.require_limits(hello)
        if self._model is not None:
            claims.require_features(self._model)
        if self._model is not None and self._image is not None:
            claims.require_image(self._model, self._image)

    # --- its key ---------------------------------------------------------------------------------

    @property
    def lock(self) -> Lock:
        return self._hello.lock

    @property
    def unique_id(self) -> bytes:
        return self._hello.unique_id

    @property
    def key_id(self) -> bytes:
        """Id of the device's key; empty: none."""
        return self._hello.key_id

    @property
    def keys(self) -> KeyRing:
        return self._keys

    @property
    def insecure(self) -> bool:
        return self._insecure

    def _authenticate(self) -> None:
        """Without the key, only requests that the device answers for strangers are possible."""
        hello = self._hello
        try:
            key = self._keys.find(hello.unique_id, hello.key_id)
        except KilotuneError as error:
            stranger = error.code == "locked" or (error.code == "wrong_key" and self._insecure)
            if hello.lock is Lock.all or not stranger:
                raise
            self._no_key = error
            return
        self._client.authenticate(key, hello.unique_id)

    def _barred(self, kind: Kind) -> KilotuneError | None:
        return self._no_key if REQUESTS[kind].access is Access.owner else None

    def set_key(self, lock: Lock, key: Key | None) -> None:
        """Gives the device a key, or removes it (`Lock.none`, None). If it has one already, that key must be known."""
        if self._no_key is not None:
            raise self._no_key
        key_id = self._client.set_key(lock, key)
        if key_id != (b"" if key is None else key.id(self._hello.unique_id)):
            raise bad_message("it has another key than the one sent")
        self._greet(self._client.open(), just_unlocked=lock is Lock.none)

    def has_key(self, key: Key) -> bool:
        """Whether the device proves in a new session that it has this key, or another one.

        Raises KilotuneError if it proves neither.
        """
        was_locked = self._hello.lock is not Lock.none
        self._greet(self._client.open(), just_unlocked=not was_locked)
        if was_locked and not self._client.authenticated:
            raise bad_message("it no longer proves its key")
        return self._client.authenticated and self.key_id == key.id(self.unique_id)

    def _require_features(self, rate_hz: float | None) -> messages.Model:
        model = self.require_model()
        if model.axes == 0:
            raise local_error("no_features")
        if rate_hz is not None and not abs(rate_hz * 1000 - model.rate_mhz) <= model.rate_mhz * RATE_TOLERANCE:
            raise local_error(
                "wrong_rate",
                f"the samples have {rate_hz:g} Hz, but the model is made for {model.rate_mhz / 1000:g} Hz",
            )
        return model

    # --- windows of samples ----------------------------------------------------------------------

    def learn(
        self,
        samples: Samples,
        labels: Sequence[int] | int | None = None,
        *,
        rate_hz: float | None = None,
        ready_features: bool = False,
        lr: float | None = None,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        accumulate: int = 1,
        seed: int = 1,
        passes: int | None = None,
        patience: int = 0,
        scorer: Scorer | str = "automatic",
        hold_period: int = 8,
        hold_count: int = 2,
        noise: int = 8,
        gain: int = 0,
        jitter: bool = False,
        force: bool = False,
        resume: bool = False,
        guard: Guard | str = "all",
        recalibrate: bool = False,
        lives: bool = False,
        apart: Apart | str = "report",
        progress: ProgressCall | None = None,
        on_result: ResultCall | None = None,
    ) -> messages.LearnReport:
        """One learn phase over all samples; returns its report when training has ended and the device detects.

        `samples`: float g or int16 counts (n, axes), or a list of such arrays, each without gaps; with
        `ready_features`, int16 Q10 (windows, features). `labels`: the class of each, for classifiers. `rate_hz` is
        checked if it is given. `hold_count` of every `hold_period` windows are held back from training. `passes`:
        training passes over the others (0: calibration only), with a learning rate that falls from `lr` to 0.
        `patience`: passes without a lower held-back loss after which training ends, 0: never early. `momentum` (below
        1) and `accumulate` (windows per step) need an image compiled for them. `weight_decay` pulls towards the base
        model. `noise` on the training inputs, in 1/16 sigma. `gain`: random gain per window and axis, in 1/16 log2.
        `jitter`: bands move by up to one. `force`: keep what was trained even if calibration is better. `resume`:
        continue from the checkpoint; such a phase refuses windows unlike the first healthy ones, and is undone if it
        would make the device less sensitive (`status().guard` says why). `guard` "gate": refuse windows by their score
        only; "none": refuse none. `recalibrate`: with `resume`, follow an ageing machine, slowly and within limits.
        `lives`: go on learning afterwards, in phases of its own; the image must be compiled for that.
        `apart`: what becomes of windows of a first phase that lie apart from all others, as a group (a fault that was
        there already, or a second state of the machine): "report" learns from them, and the report's `apart` counts
        them; "leave_out" does not learn from them; "ignore" does not look for them. If learning
        is refused (such as `too_few_windows`) or interrupted, the device returns to its last checkpoint.
        Raises KilotuneError: the device's status (firmware/kernel/status.def) by its name, `bad_argument`,
        `timeout` or `device_lost`.
        """
        options = LearnOptions(
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            accumulate=accumulate,
            seed=seed,
            passes=passes,
            patience=patience,
            scorer=named(Scorer, scorer),
            hold_period=hold_period,
            hold_count=hold_count,
            noise=noise,
            gain=gain,
            jitter=jitter,
            force=force,
            resume=resume,
            guard=named(Guard, guard),
            recalibrate=recalibrate,
            lives=lives,
            apart=named(Apart, apart),
        )
        return self.learn_with(
            samples,
            options,
            labels,
            rate_hz=rate_hz,
            ready_features=ready_features,
            progress=progress,
            on_result=on_result,
        )

    def learn_with(
        self,
        samples: Samples,
        options: LearnOptions,
        labels: Sequence[int] | int | None = None,
        *,
        rate_hz: float | None = None,
        ready_features: bool = False,
        progress: ProgressCall | None = None,
        on_result: ResultCall | None = None,
    ) -> messages.LearnReport:
        """`learn` with all options in one value."""
        model = self._require_features(rate_hz)
        phase = learning.prepare(model, self._segments(samples, ready_features), labels, options)

        def stream() -> Scores:
            return self._run_streams(phase.segments, phase.classes, rate_hz, ready_features, progress, on_result)

        return learning.run(self._client, phase, stream, progress)

    def score(
        self,
        samples: Samples,
        *,
        rate_hz: float | None = None,
        ready_features: bool = False,
        progress: ProgressCall | None = None,
        on_result: ResultCall | None = None,
    ) -> Scores:
        """The device's result for every window: score in log2, anomalous or not, and why it was refused.

        `samples` and errors as in `learn`; `wrong_state` while a learn phase runs.
        """
        self._require_features(rate_hz)
        phase = self.settled_phase()
        if phase not in (Phase.idle, Phase.detect):
            # In a learn phase, the device would learn from these windows.
            raise local_error(
                "wrong_state", f"the device is in phase {phase.name}: finish that or reset the device first"
            )
        segments = self._segments(samples, ready_features)
        labels = [0] * len(segments)
        return self._run_streams(segments, labels, rate_hz, ready_features, progress, on_result)

    def classify(self, samples: Samples, *, rate_hz: float | None = None) -> npt.NDArray[np.int64]:
        """(windows,) the most probable class of every window; the model must be a classifier."""
        if self.require_model().classes == 0:
            raise local_error("unavailable", "the model on the device is not a classifier")
        return self.score(samples, rate_hz=rate_hz).categories

    def open_stream(
        self, *, rate_hz: float | None = None, label: int = 0, ready_features: bool = False
    ) -> SampleStream:
        """A stream for live samples; finish it before any other request."""
        model = self._require_features(rate_hz)
        kind = StreamKind.features if ready_features else StreamKind.samples
        self._stream = self._stream % 0xFFFF + 1
        hop = 1 if ready_features else model.hop
        window = 1 if ready_features else model.window
        rate_mhz = model.rate_mhz if rate_hz is None else round(rate_hz * 1000)
        values = model.features if ready_features else model.axes
        spec = StreamSpec(kind, rate_mhz, model.axes, label, hop, window, frame_bytes=2 * values)
        if self._image is not None and self._image.reservoir.lives:
            self.settled_phase()
        return SampleStream(self._client, self._hello, spec, self._stream)

    def settled_phase(self) -> Phase:
        """The device's phase; what a device that goes on learning does by itself is waited for, within limits."""
        phase, end = self.status().phase, self._clock() + _PHASE_S
        while phase is Phase.train and self.life().lives and self._clock() < end:
            self._clock.sleep(_PHASE_POLL_S)
            phase = self.status().phase
        return phase

    def _segments(self, samples: Samples, ready_features: bool) -> list[Segment]:
        model = self.require_model()
        if ready_features:
            return to_features(samples, features=model.features)
        return to_segments(samples, axes=model.axes, full_scale_g=model.full_scale_ug / 1e6)

    def _run_streams(
        self,
        segments: list[Segment],
        labels: Sequence[int],
        rate_hz: float | None,
        ready_features: bool,
        progress: ProgressCall | None,
        on_result: ResultCall | None,
    ) -> Scores:
        results: list[WindowResult] = []
        owners: list[int] = []
        lost = done = 0
        total = sum(s.counts.nbytes for s in segments)

        def keep(new: list[WindowResult], owner: int) -> None:
            results.extend(new)
            owners.extend([owner] * len(new))
            if on_result is not None:
                for result in new:
                    on_result(result)

        for owner, (segment, label) in enumerate(zip(segments, labels, strict=True)):
            stream = self.open_stream(rate_hz=rate_hz, label=label, ready_features=ready_features)
            data = memoryview(segment.counts.tobytes())
            step = _STREAM_BYTES // stream.frame_bytes * stream.frame_bytes
            for at in range(0, len(data), step):
                piece = bytes(data[at : at + step])
                keep(stream.push(piece), owner)
                done += len(piece)
                tell(progress, "stream", done, total)
            keep(stream.finish(), owner)
            lost += stream.lost
        return Scores(tuple(results), tuple(owners), lost, sum(s.clipped for s in segments))

    # --- its sensor ------------------------------------------------------------------------------

    def sensor_test(self) -> messages.SensorTest:
        """The sensor's own self-test. For about 0.6 s, it measures nothing else. Keep the machine still."""
        return self._client.ask(messages.SensorTest, Kind.sensor_test)

    def raw(self, start: int = 0) -> messages.RawFrames:
        """Raw samples of the sensor's last window, from frame `start` on: as many as one message holds."""
        self.require_model()
        found = self._client.ask(messages.RawFrames, Kind.raw, messages.RawRequest(frames_from=start))
        if len(found.data) % (2 * self._require_features(None).axes):
            raise bad_message("raw samples that are not whole frames")
        return found

    # --- ready model inputs ----------------------------------------------------------------------

    def infer(self, inputs: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """int8 (n, inputs) to int8 (n, outputs)."""
        return ReadyInputs(self._client, self._hello, self.require_model()).infer(inputs)

    def train(
        self,
        inputs: npt.NDArray[np.int8],
        labels: npt.NDArray[Any] | Sequence[int] | None = None,
        *,
        steps: int,
        lr: float,
        seed: int = 1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        accumulate: int = 1,
        progress: ProgressCall | None = None,
    ) -> None:
        """`steps` training steps, one row of `inputs` each, in order, starting over at the end.

        `inputs`: int8 (n, inputs). `labels`: classes (n,) for classifiers, int8 (n, outputs) for
        regression, None for reconstruction.
        """
        options = TrainOptions(lr=lr, momentum=momentum, weight_decay=weight_decay, accumulate=accumulate, seed=seed)
        ready = ReadyInputs(self._client, self._hello, self.require_model())
        ready.train(inputs, labels, steps, options.train_config(lr), lambda n: tell(progress, "train", n, steps))

    def bench(self, *, runs: int = 1, input_row: npt.NDArray[np.int8] | None = None) -> BenchResult:
        """Instructions of one inference and of one training step, averaged over `runs`.

        Training steps change the adapter. Afterwards the device returns to its last checkpoint (or the base model), so
        commit first what you want to keep.
        """
        return ReadyInputs(self._client, self._hello, self.require_model()).bench(runs, input_row)

    # --- adapter ---------------------------------------------------------------------------------

    def commit(self, *, candidate: bool = False) -> messages.Checkpoint:
        """Writes the adapter to the device's flash; returns when it is verified there.

        A rollback from later checkpoints skips a candidate and goes to the last stable one, until `mark_stable`.
        """
        with self._room_told():
            return self._checkpoint(Kind.commit_candidate if candidate else Kind.commit)

    @contextmanager
    def _life_told(self, why_not: str) -> Iterator[None]:
        """Where a device that goes on learning refuses by its state, or one does not, the refusal says so."""
        try:
            yield
        except RefusedError as error:
            if error.code != "wrong_state":
                raise
            lives = bool(self.life().lives)
            hint = "`kilotune status` shows its state" if lives else "begin with `kilotune stream --learn --lives`"
            text = why_not if lives else "the device does not go on learning"
            raise RefusedError(error.status, error.detail, error.doing, text).with_hint(hint) from error

    @contextmanager
    def _room_told(self) -> Iterator[None]:
        """Where flash is too small for the adapter, the refusal has both numbers."""
        try:
            yield
        except RefusedError as error:
            if error.code != "no_checkpoint_room":
                raise
            size = self.require_model().adapter_bytes
            text = f"the adapter has {size:,} bytes, the flash for checkpoints of this board takes {error.detail:,}"
            raise RefusedError(error.status, error.detail, error.doing, text) from error

    def mark_stable(self) -> messages.Checkpoint:
        """Makes the newest checkpoint, a candidate, a stable one that rollbacks return to; a stable one stays."""
        return self._checkpoint(Kind.mark_stable)

    def rollback(self) -> messages.Checkpoint:
        """Returns to the checkpoint before the newest one, permanently."""
        return self._checkpoint(Kind.rollback)

    def restore(self) -> messages.Checkpoint:
        """Drops everything not committed, and returns to the newest checkpoint or the base model."""
        return self._checkpoint(Kind.restore)

    def _checkpoint(self, kind: Kind) -> messages.Checkpoint:
        self.require_model()
        return self._client.ask(messages.Checkpoint, kind)

    def reset(self) -> None:
        """Restarts the device and connects again; anything not committed is lost."""
        for _ in range(_RESTARTS):
            told = self._client.restart()
            self._greet(self._client.open())
            if told or not self._client.authenticated:
                return
        raise KilotuneError(
            "timeout",
            f"the device did not confirm in {_RESTARTS} attempts that it restarts",
            "check the cable, and that no other program speaks to the device; or press its reset button",
        )

    def pull(self, *, progress: ProgressCall | None = None) -> Adapter:
        """The device's present adapter, tagged by a locked device. Needs the image, for names and shapes."""
        if self._image is None:
            raise KilotuneError(
                "no_image",
                "pulling an adapter needs the model image",
                "give the .ktm file that the device was flashed with: --image model.ktm",
            )
        if not self._hello.lock:
            blob, status = self.pull_bytes(progress=progress), self.status()
            return self._adapter(self._image, blob, status.windows_learned, status.steps_trained)
        for last in (False, False, True):  # it may change between its bytes and its tag
            blob = self.pull_bytes(progress=progress)
            said = self._client.ask(messages.AdapterTag, Kind.adapter_tag)
            adapter = self._adapter(self._image, blob, said.windows, said.steps, tag=said.tag)
            try:
                adapter.trust(self._keys)
                break
            except KilotuneError:
                if last:
                    raise
        return adapter

    def _adapter(self, image: Image, blob: bytes, windows: int, steps: int, *, tag: bytes = b"") -> Adapter:
        from kilotune.adapters.adapter import Adapter

        return Adapter.from_blob(
            image,
            blob,
            windows_seen=windows,
            steps=steps,
            device=f"{self._hello.board}:{self._hello.unique_id.hex()}",
            firmware=self._hello.firmware,
            tag=tag.hex(),
            key_id=self._hello.key_id.hex() if tag else "",
        )

    def pull_bytes(self, *, progress: ProgressCall | None = None) -> bytes:
        """The adapter in the device's RAM. Starts over if it changes while it is read."""
        size, chunk = self.require_model().adapter_bytes, self._hello.chunk
        return transfer.pull(self._client, size, chunk, lambda n: tell(progress, "pull", n, size))

    def calibration_head(self) -> CalibrationHead | None:
        """The calibration of the adapter in the device's RAM, from its first bytes only; None: without features."""
        if self._model is None or self._model.axes == 0:
            return None
        size = CalibrationHead.LAYOUT.size
        return CalibrationHead.read(transfer.pull_start(self._client, self._model.adapter_bytes, size), 0)

    def push(self, adapter: Adapter, *, progress: ProgressCall | None = None) -> messages.Checkpoint:
        """Sends an adapter to the device; when it is verified there, it is the newest checkpoint.

        After an interruption, call it again with the same adapter: the push continues where it stopped.
        """
        model, config = self.require_model(), adapter.config
        if config.image_hash != model.image_hash.hex():
            raise local_error("wrong_base")
        outgoing = transfer.OutgoingAdapter(adapter.blob, model.image_hash, config.windows_seen, config.steps)
        size, chunk = len(adapter.blob), self._hello.chunk
        with self._room_told():
            return transfer.push(self._client, outgoing, chunk, lambda n: tell(progress, "push", n, size))

    # --- model -----------------------------------------------------------------------------------

    def replace_model(self, image: Image, *, progress: ProgressCall | None = None) -> DeviceInfo:
        """Replaces the device's model with `image`; the device keeps the old one for `rollback_model`.

        The device verifies the whole image, and checks that it fits, before it becomes valid. If anything fails, the
        old model keeps running. Learning that was not committed is lost; what was committed for a model is valid again
        when that model returns. After an interruption, call it again: the transfer continues where it stopped.
        """
        size, chunk = len(image.content), self._hello.chunk
        running = swap_model(
            self._client, image.content, image.image_hash, chunk, lambda n: tell(progress, "model", n, size)
        )
        if running.image_hash != image.image_hash:
            raise KilotuneError(
                "other_image",
                f"the device runs image {running.image_hash.hex()[:12]} after another was sent",
                "send the model again",
            )
        self._image = image
        self._greet(self._client.open())
        return self.info()

    def rollback_model(self) -> DeviceInfo:
        """Returns to the previous model, permanently, and to what was committed for it."""
        self._client.ask(messages.Model, Kind.model_rollback)
        self._image = None
        self._greet(self._client.open())
        return self.info()
