"""Messages as typed values: a class an array of firmware/schema/messages.cddl, every field in its range."""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import cache
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec

from kilotune.link import cbor
from kilotune.link.auth import KEY_ID_BYTES, NONCE_BYTES, TAG_BYTES
from kilotune.terms import Chip as Chip
from kilotune.terms import Guard as Guard
from kilotune.terms import Lock as Lock
from kilotune.terms import Phase as Phase
from kilotune.terms import Reason as Reason
from kilotune.terms import RestartCause as RestartCause
from kilotune.terms import Scorer as Scorer
from kilotune.terms import StreamKind as StreamKind

PROTOCOL_VERSION = 1
HEADER = struct.Struct("<BBHH")  # protocol version, kind, session, sequence number
ANSWER = 0x80
TAGGED = 0x40
ERROR_ANSWER = 0xFF
RESULT = struct.Struct("<hBBBB")  # score, refused, flags, category, reserved

U8 = Annotated[int, msgspec.Meta(ge=0, le=0xFF)]
U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
U63 = Annotated[int, msgspec.Meta(ge=0)]
I16 = Annotated[int, msgspec.Meta(ge=-0x8000, le=0x7FFF)]
TensorBytes = Annotated[int, msgspec.Meta(ge=1, le=1 << 22)]  # more is a lie
AdapterBytes = Annotated[int, msgspec.Meta(ge=0, le=1 << 26)]
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Kind(IntEnum):
    """As in firmware/runtime/link/wire.h."""

    hello = 1
    model = 2
    status = 3
    reset = 4
    challenge = 5
    key = 6
    learn_begin = 8
    learn_end = 9
    learn_cancel = 10
    stream_begin = 16
    samples = 17
    stream_end = 18
    results = 19
    input_write = 24
    infer = 25
    output_read = 26
    train_begin = 27
    train_step = 28
    bench = 29
    commit = 32
    rollback = 33
    restore = 34
    pull = 35
    push_begin = 36
    push = 37
    push_end = 38
    adapter_tag = 39
    commit_candidate = 40
    mark_stable = 41
    model_begin = 44
    model_piece = 45
    model_end = 46
    model_rollback = 47
    sensor_test = 48
    raw = 49


# What a request asks for, to complete "the device refused to ...".
DOING = {
    Kind.hello: "open a session",
    Kind.model: "describe its model",
    Kind.status: "tell its status",
    Kind.reset: "restart",
    Kind.challenge: "be unlocked",
    Kind.key: "take a key",
    Kind.learn_begin: "begin learning",
    Kind.learn_end: "end learning",
    Kind.learn_cancel: "cancel learning",
    Kind.stream_begin: "take a stream of samples",
    Kind.samples: "take samples",
    Kind.stream_end: "end a stream",
    Kind.results: "give results",
    Kind.input_write: "take an input",
    Kind.infer: "run the model",
    Kind.output_read: "give an output",
    Kind.train_begin: "begin training",
    Kind.train_step: "train a step",
    Kind.bench: "measure",
    Kind.commit: "commit",
    Kind.rollback: "roll back",
    Kind.restore: "drop what is not committed",
    Kind.pull: "give its adapter",
    Kind.push_begin: "take an adapter",
    Kind.push: "take a piece of an adapter",
    Kind.push_end: "use the adapter",
    Kind.adapter_tag: "vouch for its adapter",
    Kind.commit_candidate: "commit a candidate",
    Kind.mark_stable: "mark its checkpoint as stable",
    Kind.model_begin: "take another model",
    Kind.model_piece: "take a piece of a model",
    Kind.model_end: "use the model",
    Kind.model_rollback: "return to its former model",
    Kind.sensor_test: "test its sensor",
    Kind.raw: "give raw samples",
}


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    kind: U8
    status: U8
    detail: U32


@dataclass(frozen=True, slots=True)
class Hello:
    firmware: Annotated[str, msgspec.Meta(max_length=24)]
    board: Annotated[str, msgspec.Meta(max_length=32)]
    unique_id: Annotated[bytes, msgspec.Meta(max_length=16)]
    max_frame: Annotated[int, msgspec.Meta(ge=64, le=0xFFFF)]
    chunk: Annotated[int, msgspec.Meta(ge=16, le=0xFFFF)]
    credit: U32
    result_ring: Annotated[int, msgspec.Meta(ge=1, le=0xFF)]
    opened: U8
    phase: Phase
    lock: Lock
    key_id: Annotated[bytes, msgspec.Meta(max_length=KEY_ID_BYTES)]


@dataclass(frozen=True, slots=True)
class Challenge:
    challenge: Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]


@dataclass(frozen=True, slots=True)
class KeySet:
    key_id: Annotated[bytes, msgspec.Meta(max_length=KEY_ID_BYTES)]


@dataclass(frozen=True, slots=True)
class Model:
    image_hash: Hash
    base_hash: Hash
    input_bytes: TensorBytes
    output_bytes: TensorBytes
    adapter_bytes: AdapterBytes
    state_bytes: U32
    arena_bytes: U32
    loss: U8
    method: U8
    classes: U16
    axes: U8
    rate_mhz: U32
    full_scale_ug: U32
    window: U16
    hop: U16
    features: U16


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`sequence` 0: nothing was committed."""

    sequence: U32
    total_bytes: U32
    crc: U32
    windows: U32
    steps: U32
    erases: U32


@dataclass(frozen=True, slots=True)
class LearnReport:
    """What learning came to; losses and the threshold in Q10 log2."""

    learned: U16
    held: U16
    passes_done: U16
    passes_kept: U16
    loss_calibration_held: I16
    loss_candidate_held: I16
    loss_calibration_learned: I16
    loss_candidate_learned: I16
    kept_candidate: U8
    scorer: Scorer
    threshold: I16
    dropped: U16  # windows unlike all others
    candidate_allowed: U8  # better than calibration on held-back windows
    # How well held-back windows are told from pseudo-faults, in 1/1000 of AUC; 0: not measured.
    auc_calibration: U16
    auc_candidate: U16
    auc_nearest: U16
    auc_combined: U16


@dataclass(frozen=True, slots=True)
class Counters:
    windows: U32
    clipped: U32
    constant: U32
    anomalous: U32
    stuck: U32
    saturated: U32
    train_steps: U32


@dataclass(frozen=True, slots=True)
class LinkCounters:
    frames: U32
    bad_crc: U32
    bad_cobs: U32
    too_long: U32
    dropped: U32
    repeated: U32


@dataclass(frozen=True, slots=True)
class MemoryUse:
    static_bytes: U32
    stack_bytes: U32
    stack_peak: U32


@dataclass(frozen=True, slots=True)
class LastFault:
    """How the device's run before this one ended.

    `pc`: 0 not by a fault, 1 by an interrupt without handler, 2 by a stack overflow, else where it faulted.
    `fault_status`: of the core's fault register.
    """

    pc: U32
    lr: U32
    fault_status: U32


EARLIER_RUN = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """Of the last learn phase up to `shift`, then since boot. Shares and sigmas in 1/1000, the rest Q10 log2."""

    reasons: U8  # `Reason` bits of the last learn phase
    returned: U8  # 1: the device went back to its checkpoint
    early: U8  # early windows on the device
    early_alarms: U8  # of them above the new threshold
    drift_weights: U16  # RMS change from the base over the base's RMS, largest layer
    drift_biases: U16  # RMS change over the layer's output range, largest layer
    aged: U16  # sigma that re-calibration has moved the features, in all
    unsteady: U16  # sigma between the end of a first phase and its mean
    loss_early_before: I16
    loss_early_after: I16
    margin_first: I16  # threshold less mean score of the early windows
    margin_now: I16
    told_first: U16  # of pseudo-faults made of the early windows
    told_now: U16
    shift: I16  # of the phase's windows from the early windows' own distances (0) to the limits (1024)
    drifted: U32  # windows refused: farther from the first healthy ones than they are from each other
    inputs_saturated: U32  # features beyond what a model input can say
    early_loss: U16  # how often each reason held
    parameters: U16
    alarms: U16
    tolerant: U16
    insensitive: U16
    budget: U16
    unlike: U16
    shifted: U16
    last_reasons: U8
    last_window: U32  # `counters.windows` when they held, `EARLIER_RUN`: before this run


@dataclass(frozen=True, slots=True)
class SensorState:
    """The sensor beside the device. `sensor_state`: a status, 0: it works; all counts are since boot."""

    chip: Chip
    sensor_state: U8
    sensing: U8  # its samples go into windows
    alone: U8  # the device learns from them without a host
    samples: U32
    overruns: U32  # times that samples were lost
    anomalies: U32  # windows of any stream scored as such


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """`passes`: asked for; `report.passes_done` tells how far training is."""

    phase: Phase
    generation: U32
    uptime_ms: U32
    stream: U16
    windows_learned: U32
    train_steps: U32
    steps_trained: U32  # that made the present adapter
    passes: U16
    checkpoint: Checkpoint
    report: LearnReport
    counters: Counters
    link: LinkCounters
    memory: MemoryUse
    fault: LastFault
    guard: GuardStatus
    sensor: SensorState
    restart_cause: RestartCause
    stable: U8  # 1: the checkpoint is stable; 0: a candidate, or none
    objected: U16  # learn phases of this adapter's checkpoints that guardrails had reasons against
    last_returned: U8  # 1: the last of them was undone


@dataclass(frozen=True, slots=True)
class TrainConfig:
    rate_mantissa: int
    rate_exponent: int
    decay_mantissa: int
    decay_exponent: int
    momentum_q15: int
    accumulate: int
    seed: int


@dataclass(frozen=True, slots=True)
class LearnConfig:
    train: TrainConfig
    passes: int
    patience: int
    hold_period: int
    hold_count: int
    labelled: int
    resume: int
    scorer: int
    force: int
    noise: int
    gain: int
    jitter: int
    guard: int
    recalibrate: int


@dataclass(frozen=True, slots=True)
class StreamBegun:
    frame_bytes: Annotated[int, msgspec.Meta(ge=1, le=0xFFFF)]


@dataclass(frozen=True, slots=True)
class SamplesTaken:
    next: U32
    credit: U32
    results_first: U32
    results: bytes


@dataclass(frozen=True, slots=True)
class Results:
    results_first: U32
    results_end: U32
    results: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    total_bytes: U32
    windows: U32


@dataclass(frozen=True, slots=True)
class Output:
    output_bytes: U32
    offset: U32
    output: bytes


@dataclass(frozen=True, slots=True)
class StepsDone:
    steps: U32


@dataclass(frozen=True, slots=True)
class BenchCount:
    instructions: U63
    elapsed_ms: U32


@dataclass(frozen=True, slots=True)
class PullChunk:
    offset: U32
    total: U32
    crc: U32
    generation: U32
    data: bytes


@dataclass(frozen=True, slots=True)
class PushNext:
    next: U32


@dataclass(frozen=True, slots=True)
class AdapterTag:
    windows: U32
    steps: U32
    generation: U32
    tag: Annotated[bytes, msgspec.Meta(min_length=TAG_BYTES, max_length=TAG_BYTES)]


@dataclass(frozen=True, slots=True)
class SensorTest:
    """How far the sensor's own push moved each axis, in milli-g."""

    passed: U8
    x_mg: I16
    y_mg: I16
    z_mg: I16


@dataclass(frozen=True, slots=True)
class RawFrames:
    """Frames of the sensor by index since it began to sense; `gap_at`: the frame behind the last of `gaps`."""

    frames_first: U32
    frames_end: U32
    gaps: U32
    gap_at: U32
    data: bytes


@dataclass(frozen=True, slots=True)
class WindowResult:
    """`index`: windows since the stream began; `score`: Q10 log2; `refused`, `flags`: `Refusal`, `WindowFlag` bits."""

    index: int
    score: int
    refused: int
    flags: int
    category: int


T = TypeVar("T")


def encode(*values: Any) -> bytes:
    """CBOR of the array of `values`; dataclasses are laid out in place. No values: no bytes."""
    items = [item for value in values for item in _flat(value)]
    return cbor.encode(tuple(items)) if items else b""


def decode(cls: type[T], payload: bytes) -> T:
    """The message of class `cls`; KilotuneError `bad_message` where anything is not as the schema says."""
    items = cbor.decode(payload)
    layout: Any = cls
    if len(items) != _width(layout):
        raise cbor.bad_message(f"{cls.__name__} has {_width(layout)} fields, not {len(items)}")
    try:
        return msgspec.convert(_nest(layout, iter(items)), cls, strict=True, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise cbor.bad_message(f"{cls.__name__}: {error}") from None


def unpack_results(first: int, packed: bytes) -> list[WindowResult]:
    """Window results as they lie in a message, 6 bytes each."""
    if len(packed) % RESULT.size:
        raise cbor.bad_message("results of a broken length")
    results = []
    for i, (score, refused, flags, category, _) in enumerate(RESULT.iter_unpack(packed)):
        results.append(WindowResult(first + i, score, refused, flags, category))
    return results


def _flat(value: Any) -> list[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        return [item for f in fields(value) for item in _flat(getattr(value, f.name))]
    return [int(value)] if isinstance(value, int) else [value]


@cache
def _layout(cls: Any) -> tuple[tuple[str, type | None], ...]:
    """(field, its class where it is a group of fields) in the order of the wire"""
    hints = get_type_hints(cls)
    return tuple((f.name, hints[f.name] if is_dataclass(hints[f.name]) else None) for f in fields(cls))


@cache
def _width(cls: Any) -> int:
    return sum(1 if group is None else _width(group) for _, group in _layout(cls))


def _nest(cls: type, items: Any) -> dict[str, Any]:
    return {name: next(items) if group is None else _nest(group, items) for name, group in _layout(cls)}
