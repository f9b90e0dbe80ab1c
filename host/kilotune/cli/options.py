"""Options that several commands share, gathered into one typed value each."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from kilotune.cli.groups import Decorated, OptionGroup, refuse_given
from kilotune.errors import KilotuneError
from kilotune.link.transport import DEFAULT_TIMEOUT_S
from kilotune.terms import Apart, Guard, Scorer, named, word_of, words

if TYPE_CHECKING:
    from kilotune.adapters.adapter import Adapter
    from kilotune.cli.output import Output
    from kilotune.device.device import Device
    from kilotune.device.learning import LearnOptions
    from kilotune.image.image import Image
    from kilotune.recordings import ReadOptions
    from kilotune.targets.sensors import SensorChoice

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


class Real(click.FloatRange):
    """A number within a range. Unlike click's it refuses NaN, which passes every comparison, and infinities."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:
        return "" if self.min is None and self.max is None else super()._describe_range()


@dataclass(frozen=True, slots=True)
class Where:
    """Which device a command speaks to."""

    target: str | None  # None: the only serial port of this computer
    image: Path | None
    state: Path | None
    timeout_s: float
    key_file: Path | None
    insecure: bool

    def connect(self, image: Image | Path | None, *, fresh: bool = False, new_key: bool = False) -> Device:
        """`fresh`: start with empty flash unless --state names a folder. `new_key`: --key-file need not exist yet."""
        from kilotune.link.keys import read
        from kilotune.targets.connect import connect

        if self.key_file is not None and not (new_key and not self.key_file.exists()):
            read(self.key_file)  # else a wrong name would be no lock at all
        return connect(
            self._stateful(),
            image,
            self.state,
            self.timeout_s,
            self.key_file,
            fresh=fresh,
            insecure=self.insecure,
        )

    def named(self) -> str:
        """The target as text; if none was given, the computer's only serial port."""
        if self.target is not None:
            return self.target
        from kilotune.targets.ports import sole_port

        return sole_port()

    def is_port(self) -> bool:
        """A device that runs on when the command has ended."""
        from kilotune.targets.target import parse_target

        return parse_target(self.named()).kind == "port"

    def _stateful(self) -> str:
        """The target as text. Refuses --state for a serial port, as the device behind it has flash of its own."""
        named = self.named()
        if self.is_port():
            refuse_given(("state",), f"the device on {named} has flash of its own")
        return named


def device_options(*, image_option: bool = True) -> Callable[[Decorated], Decorated]:
    """Adds --target, --port, --state, --timeout, --key-file, --insecure (and --image): they come as `where`."""

    def wrap(function: Decorated) -> Decorated:
        @functools.wraps(function)
        def run(
            out: Any,
            target: str | None,
            port: str | None,
            state: Path | None,
            timeout: float,
            key_file: Path | None,
            insecure: bool,
            **rest: Any,
        ) -> None:
            if target is not None and port is not None:
                raise KilotuneError("bad_argument", "--target and --port name two devices", "give one of them")
            image = rest.pop("image_file", None) if image_option else rest.get("image")
            chosen = target if target is not None else port
            function(out, where=Where(chosen, image, state, timeout, key_file, insecure), **rest)

        decorators = [
            click.option(
                "-t",
                "--target",
                metavar="TARGET",
                help="Device: twin, native, qemu:BOARD, renode:BOARD or a port [default: the only serial port].",
            ),
            click.option(
                "-p", "--port", metavar="PORT", help="Like --target, for a port: /dev/ttyACM0, socket://HOST:PORT."
            ),
            click.option("--state", type=FOLDER, help="Folder for the flash of a target without hardware."),
            click.option(
                "--timeout",
                type=Real(min=0.1, max=86400),
                default=DEFAULT_TIMEOUT_S,
                show_default=True,
                metavar="S",
                help="Longest wait for any one answer, in seconds.",
            ),
            click.option("--key-file", type=FILE, help="Key of a locked device [default: from your key folder]."),
            click.option("--insecure", is_flag=True, help="Accept a device that claims to have lost its key."),
        ]
        if image_option:
            decorators.insert(
                2,
                click.option(
                    "--image",
                    "image_file",
                    type=EXISTING,
                    help="Model image (.ktm); required if the device has none.",
                ),
            )
        for decorate in reversed(decorators):
            run = decorate(run)
        return run

    return wrap


require_tag_option = click.option(
    "--require-tag", is_flag=True, help="Refuse an adapter unless its device's tag can be verified."
)


def load_adapter(out: Output, folder: Path, key_file: Path | None = None, require_tag: bool = False) -> Adapter:
    """Loads an adapter. Verifies its tag if the key is known; notes it if the key is not here."""
    from kilotune.adapters.adapter import Adapter
    from kilotune.adapters.trust import Trust, require
    from kilotune.link.keys import KeyRing

    keys = KeyRing(key_file)
    adapter = Adapter.load(folder, keys=keys)
    found = adapter.trust(keys)
    if require_tag:
        require(found)
    elif found is Trust.unknown_key:
        out.note(f"the adapter is {found.value}")
    return adapter


def _sensors(drivers: str | None, sensor_bus: str | None) -> SensorChoice:
    from kilotune.targets.sensors import SensorChoice

    return SensorChoice(None if drivers is None else _split(drivers), sensor_bus)


# Which sensors the firmware drives, and how: a `SensorChoice`.
sensor_options = OptionGroup(
    "sensors",
    _sensors,
    {
        "drivers": click.option(
            "--sensors",
            "drivers",
            metavar="A,B",
            help="Sensors that the firmware looks for, in this order; '' for none [default: the board's].",
        ),
        "sensor_bus": click.option(
            "--sensor-bus", type=click.Choice(("i2c", "spi")), help="Bus of the sensors [default: i2c]."
        ),
    },
)


def _read(
    columns: str | None,
    variable: str | None,
    rate: float | None,
    time_column: str | None,
    unit: str | None,
    scale: str | None,
    offset: str | None,
    sensitivity: float | None,
    delimiter: str | None,
    decimal: str | None,
    start: float,
    seconds: float | None,
    upsample: bool,
) -> ReadOptions:
    from kilotune.recordings import ReadOptions

    if unit not in (None, "volts", "V"):
        refuse_given(("sensitivity",), "a sensitivity applies to volts only")
    return ReadOptions(
        columns=_split(columns),
        rate_hz=rate,
        unit=unit,
        scale=_split(scale),
        offset=_split(offset),
        sensitivity_v_per_g=sensitivity,
        start_s=start,
        seconds=seconds,
        upsample=upsample,
        time_column=time_column,
        variable=variable,
        delimiter=_one_delimiter(delimiter),
        decimal=decimal,
    )


def _one_delimiter(text: str | None) -> str | None:
    if text is None or len(text) == 1 or text in ("tab", "space", "comma", "semicolon", "\\t"):
        return text
    raise KilotuneError("bad_argument", f"--delimiter {text!r} is no single character", "such as ; or tab or space")


# What a reader needs to know of a file, the same in every command that reads recordings: `ReadOptions`.
source_options = OptionGroup(
    "read",
    _read,
    {
        "columns": click.option(
            "--columns", metavar="A,B,C", help="Columns in the order of the model's axes: names, or numbers from 0."
        ),
        "variable": click.option(
            "--variable",
            metavar="PATH",
            help="The signal, in a file of several arrays, groups or sheets: path.to.signal.",
        ),
        "rate": click.option(
            "--rate",
            type=Real(min=0, min_open=True),
            metavar="HZ",
            help="Sampling rate in Hz, if the file does not state it.",
        ),
        "time_column": click.option(
            "--time-column", metavar="A", help="The time column, by name or number; none: there is none."
        ),
        "unit": click.option(
            "--unit",
            type=click.Choice(("g", "mg", "m/s^2", "ms2", "counts", "V", "volts")),
            help="Unit of the values, if the file does not state it.",
        ),
        "scale": click.option(
            "--scale", metavar="S[,S..]", help="Multiply values by this: a number, or the name of one in the file."
        ),
        "offset": click.option(
            "--offset", metavar="O[,O..]", help="Subtract this after scaling: a number, or the name of one in the file."
        ),
        "sensitivity": click.option(
            "--sensitivity", type=Real(), metavar="V/G", help="Sensitivity in volts per g, for values in volts."
        ),
        "delimiter": click.option(
            "--delimiter", metavar="C", help="Of text files: the character between numbers, or tab, or space."
        ),
        "decimal": click.option("--decimal", type=click.Choice((".", ",")), help="Of text files: the decimal sign."),
        "start": click.option(
            "--start",
            type=Real(min=0),
            default=0.0,
            metavar="S",
            help="Skip the first S seconds of each file [default: 0].",
        ),
        "seconds": click.option(
            "--seconds", type=Real(min=0, min_open=True), metavar="S", help="Use at most S seconds of each file."
        ),
        "upsample": click.option(
            "--upsample", is_flag=True, help="Upsample files below the model's rate, though its upper bands stay empty."
        ),
    },
)


def refuse_unread(sources: Iterable[str]) -> None:
    """Raises `bad_argument` for options about file values if every source is a simulated machine."""
    if all(source.startswith("synthetic:") for source in sources):
        of_files = (
            "unit",
            "scale",
            "offset",
            "sensitivity",
            "start",
            "variable",
            "time_column",
            "delimiter",
            "decimal",
        )
        refuse_given(of_files, "a simulated machine reads no file")


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def _learning(**asked: Any) -> LearnOptions:
    """`asked`: fields of `LearnOptions`, all of them or some."""
    from kilotune.device.learning import LearnOptions

    if not asked.get("resume"):
        refuse_given(("recalibrate", "guard"), "without --resume a device starts from the base model")
    if asked.get("lives"):
        refuse_given(("resume",), "--lives begins a new life")
    if asked["passes"] == 0:
        refuse_given(("lr",), "--passes 0 only calibrates and trains nothing")
    drop, confirm = asked.pop("drop", False), asked.pop("confirm", False)
    if drop and confirm:
        raise KilotuneError("bad_argument", "--drop and --confirm exclude each other", "give one of them")
    if asked.get("resume"):
        refuse_given(("drop", "confirm"), "only a first phase looks for windows that lie apart")
    asked["apart"] = Apart.leave_out if drop else Apart.ignore if confirm else Apart.report
    kinds: dict[str, type[IntEnum]] = {"scorer": Scorer, "guard": Guard}
    return LearnOptions(**{name: named(kinds[name], v) if name in kinds else v for name, v in asked.items()})


# How to learn: `LearnOptions`.
learn_options = OptionGroup(
    "learning",
    _learning,
    {
        "passes": click.option(
            "--passes",
            type=click.IntRange(0, 65535),
            help="Training passes over the stored windows; 0 only calibrates [default: 40; classifiers: 100].",
        ),
        "lr": click.option("--lr", type=Real(min=0), help="Learning rate [default: 0.5; classifiers: 0.05]."),
        "seed": click.option(
            "--seed",
            type=click.IntRange(0, 2**32 - 1),
            default=1,
            show_default=True,
            help="Seed of the device's random choices.",
        ),
        "scorer": click.option(
            "--scorer",
            type=click.Choice(words(Scorer)),
            default=word_of(Scorer.automatic),
            show_default=True,
            help="What scores a window; with automatic, the device picks what is best on held-back windows.",
        ),
        "resume": click.option(
            "--resume", is_flag=True, help="Continue from the checkpoint instead of the base model."
        ),
        "recalibrate": click.option(
            "--recalibrate", is_flag=True, help="With --resume: follow an ageing machine, slowly and within limits."
        ),
        "lives": click.option(
            "--lives", is_flag=True, help="Go on learning afterwards, in phases of its own, as long as the device runs."
        ),
        "drop": click.option(
            "--drop",
            is_flag=True,
            help="Do not learn from windows that lie apart from the others, as a group, such as a fault's.",
        ),
        "confirm": click.option(
            "--confirm",
            is_flag=True,
            help="Such windows are the healthy machine, too: learn from them, and with --commit keep it.",
        ),
        "guard": click.option(
            "--guard",
            type=click.Choice(words(Guard)),
            default=word_of(Guard.all),
            show_default=True,
            help="With --resume: which windows to refuse. all: by score and by comparison with the first healthy ones; "
            "gate: by score only; none: refuse none.",
        ),
    },
)
