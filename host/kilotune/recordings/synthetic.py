"""A simulated machine as a source: `synthetic:healthy`, `synthetic:inner,severity=0.5,seed=3`."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, cast

from kilotune.errors import KilotuneError
from kilotune.recordings.limits import MAX_VALUES
from kilotune.recordings.recording import Channel, Recording

if TYPE_CHECKING:
    from kilotune.recordings.simulator import Fault

PREFIX = "synthetic:"
AXES = 3
_NUMBERS = ("severity", "seed", "machine", "rpm", "load", "seconds", "rate")


@dataclass(frozen=True, slots=True)
class Synthetic:
    """What to simulate: `machine` chooses the machine, `seed` the stretch of its life."""

    fault: str | None  # None: healthy
    severity: float = 0.5
    seed: int = 0
    machine: int = 1
    rpm: float | None = None  # None: the machine's nominal speed
    load: float = 0.5  # 0 to 1
    seconds: float = 10.0
    rate_hz: float | None = None  # None: the rate asked for by the caller


def parse_synthetic(spec: str) -> Synthetic:
    """Reads `synthetic:FAULT[,name=value...]`; FAULT is `healthy` or a fault of the simulator."""
    body = spec[len(PREFIX) :] if spec.startswith(PREFIX) else spec
    kind, *parts = [part.strip() for part in body.split(",")]
    values: dict[str, float] = {}
    for part in parts:
        key, sign, text = part.partition("=")
        try:
            if not sign or key not in _NUMBERS:
                raise ValueError
            values[key] = float(text)
            if not isfinite(values[key]):
                raise ValueError
        except ValueError:
            raise KilotuneError(
                "bad_argument",
                f"{spec!r}: {part!r} is not understood",
                f"write synthetic:FAULT,name=number,... with names {', '.join(_NUMBERS)}",
            ) from None
    _require_fault(kind, spec)
    return Synthetic(
        fault=None if kind == "healthy" else kind,
        severity=values.get("severity", 0.5),
        seed=int(values.get("seed", 0)),
        machine=int(values.get("machine", 1)),
        rpm=values.get("rpm"),
        load=values.get("load", 0.5),
        seconds=values.get("seconds", 10.0),
        rate_hz=values.get("rate"),
    )


def _require_fault(kind: str, spec: str) -> None:
    from kilotune.recordings.simulator import FAULTS

    if kind != "healthy" and kind not in FAULTS:
        raise KilotuneError(
            "bad_argument", f"{spec!r}: no fault {kind!r}", f"use healthy or one of {', '.join(FAULTS)}"
        )


def simulate(spec: str, *, rate_hz: float, seconds: float | None = None) -> Recording:
    """Acceleration in g of the simulated machine; the same spec gives the same samples."""
    import numpy as np

    from kilotune.recordings.simulator import Machine

    wish = parse_synthetic(spec)
    rate = wish.rate_hz if wish.rate_hz is not None else rate_hz
    length_s = wish.seconds if seconds is None else seconds
    if not (rate > 0 and length_s > 0):
        raise KilotuneError("bad_argument", f"{spec!r}: rate and seconds must be above 0", "correct the source")
    if AXES * length_s * rate > MAX_VALUES:
        raise KilotuneError(
            "too_large", f"{spec!r}: {length_s:g} s at {rate:g} Hz is too much to hold at once", "give fewer seconds"
        )
    machine = Machine.random(wish.machine)
    samples = machine.record(
        length_s,
        rate,
        rpm=wish.rpm,
        load=wish.load,
        fault=cast("Fault | None", wish.fault),
        severity=wish.severity,
        seed=wish.seed,
    )
    found = np.asarray(samples, np.float32)
    channels = tuple(Channel(name, "g", "simulated") for name in ("x", "y", "z")[: found.shape[1]])
    return Recording(found, rate, spec, "g", channels=channels, rate_from="simulated")
