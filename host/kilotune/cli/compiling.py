"""The options of `kilotune compile`, as `CompileOptions`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import rich_click as click

from kilotune.cli.groups import OptionGroup, is_given, refuse_given
from kilotune.cli.options import Real
from kilotune.cli.rules import alarm_option
from kilotune.errors import KilotuneError
from kilotune.terms import FIXED_METHODS, Loss, Method, named, spellings

if TYPE_CHECKING:
    from kilotune.cli.output import Output
    from kilotune.compiler.options import CompileOptions
    from kilotune.image.base_profile import LifeSettings
    from kilotune.image.image import Image


def _options(
    method: str,
    last_layers: int | None,
    layers: str | None,
    rank: int | None,
    channels: tuple[str, ...],
    loss: str,
    momentum: bool,
    accumulate: bool,
    recompute: bool,
    adam: bool,
    early: int,
    alone_windows: int | None,
    once: bool,
    alarm: tuple[int, int] | None,
    record: int | None,
    first: int | None,
    anchor: float | None,
) -> CompileOptions:
    from kilotune.compiler.options import SEARCHED, CompileOptions, loss_named

    if is_given("ram"):
        refuse_given(SEARCHED, "--ram chooses the layers itself, and what to train in each")
    return CompileOptions(
        method=named(Method, method),
        last_layers=last_layers,
        layers=None if layers is None else tuple(name.strip() for name in layers.split(",")),
        rank=rank,
        channels=parse_channels(channels),
        loss=loss_named(loss),
        momentum=momentum,
        accumulate=accumulate,
        recompute=recompute,
        adam=adam,
        early=early,
        alone_windows=alone_windows,
        life=_life(once, alarm, record, first, anchor),
    )


def _life(
    once: bool, alarm: tuple[int, int] | None, record: int | None, first: int | None, anchor: float | None
) -> LifeSettings | Literal["auto"] | None:
    from kilotune.image.base_profile import LifeSettings

    if once:
        refuse_given(
            ("alarm", "record", "first", "anchor"), "--once makes a device that learns once and has no records"
        )
        return None
    usual = LifeSettings()
    if alarm is None and record is None and first is None and anchor is None:
        return "auto"
    rule, limit = alarm or (usual.alarmed, usual.of), anchor or usual.anchor
    return LifeSettings(*rule, record or usual.record, first or usual.first, limit)


# All options but the features, which come from a file.
compile_options = OptionGroup(
    "options",
    _options,
    {
        "method": click.option(
            "--method",
            type=click.Choice([str(method) for method in FIXED_METHODS]),
            default=str(Method.bias),
            show_default=True,
            help="Which parameters the device trains.",
        ),
        "last_layers": click.option(
            "--last-layers", type=click.IntRange(min=1), help="Train only this many layers, counted from the last."
        ),
        "layers": click.option(
            "--layers", help="Train only these layers: names or numbers (see inspect), separated by commas."
        ),
        "rank": click.option(
            "--rank", type=click.IntRange(min=1, max=8), help="Rank of the updates, for method lora [default: 2]."
        ),
        "channels": click.option(
            "--channels",
            multiple=True,
            metavar="N|LAYER:I,I,...",
            help="Channels to train, for method channels: how many per layer, or which; repeatable [default: 4].",
        ),
        "loss": click.option(
            "--loss",
            type=click.Choice(["auto", *spellings(Loss)]),
            default="auto",
            show_default=True,
            help="Loss to train with; auto: the one in the model's metadata, else the one its shape suggests.",
        ),
        "momentum": click.option("--momentum", is_flag=True, help="Reserve memory for training with momentum."),
        "accumulate": click.option(
            "--accumulate", is_flag=True, help="Reserve memory for accumulating gradients over several windows."
        ),
        "recompute": click.option(
            "--recompute",
            is_flag=True,
            help="Recompute activations for the backward pass where that saves RAM: same result, more instructions.",
        ),
        "adam": click.option(
            "--adam", is_flag=True, help="Train with Adam: two bytes of state per parameter; not for method lora."
        ),
        "early": click.option(
            "--early",
            type=click.IntRange(0, 255),
            default=0,
            show_default=True,
            help="Windows of the first learn phase kept as a check on later ones, one byte per feature each; 0: none.",
        ),
        "alone_windows": click.option(
            "--alone-windows",
            type=click.IntRange(0, 65535),
            help="Windows that a device with a sensor learns from without a host; 0: it waits for a host "
            "[default: those of --first; with --once, twice the reservoir].",
        ),
        "once": click.option(
            "--once", is_flag=True, help="The device learns once, instead of going on learning as long as it runs."
        ),
        "alarm": alarm_option("Alarmed records, of so many in a row, that make an alarm [default: 3/5]."),
        "record": click.option(
            "--record", type=click.IntRange(1, 255), metavar="N", help="Windows of a record, at most [default: 4]."
        ),
        "first": click.option(
            "--first", type=click.IntRange(4, 255), metavar="N", help="Records of the first phase [default: 10]."
        ),
        "anchor": click.option(
            "--anchor",
            type=Real(min=1 / 16, max=15),
            metavar="LOG2",
            help="Distance from the machine as settled that is an alarm, however slowly it got there [default: 4]; "
            "less finds slower faults, and takes a machine that changes by itself for one.",
        ),
    },
)


def _lived(
    alarm: tuple[int, int] | None, record: int | None, first: int | None, anchor: float | None
) -> LifeSettings | None:
    found = _life(False, alarm, record, first, anchor)
    return None if found == "auto" else found


# How a device goes on learning, where that is all that is chosen; None: as usual.
life_options = OptionGroup(
    "lived", _lived, {name: compile_options.option(name) for name in ("alarm", "record", "first", "anchor")}
)


def parse_channels(texts: tuple[str, ...]) -> int | dict[str | int, list[int]] | None:
    """One number for every layer, or `layer:channel,channel,...` for each layer."""
    if not texts:
        return None
    if len(texts) == 1 and texts[0].isdecimal():
        return int(texts[0])
    found: dict[str | int, list[int]] = {}
    for text in texts:
        name, _, channels = text.rpartition(":")
        if not name or not all(c.strip().isdecimal() for c in channels.split(",")):
            raise KilotuneError("bad_argument", f"--channels {text} is not understood", "write 8, or LAYER:0,5,7")
        found[name] = [int(c) for c in channels.split(",")]
    return found


def note_if_once(out: Output, image: Image, board_id: str) -> None:
    """Tells where a board's firmware does less than the image asks for."""
    from kilotune.targets.boards import board

    if image.reservoir.lives and not board(board_id).goes_on:
        out.note(f"the firmware of {board_id} is built without going on learning: it learns once (compile --once)")


def with_settings(options: CompileOptions, path: Path) -> CompileOptions:
    """Adds features and profile from a JSON file: {"features": {...}, "profile": {...}}."""
    from kilotune.image.base_profile import Profile
    from kilotune.image.features import FeatureConfig, decode_json

    data = decode_json(path.read_bytes(), path.name)
    if not isinstance(data, dict) or "features" not in data:
        raise KilotuneError(
            "bad_features",
            f"{path.name} has no entry 'features'",
            'write {"features": {...}, "profile": {...}}',
        )
    profile = Profile.from_json(data["profile"]) if data.get("profile") else None
    return replace(options, features=FeatureConfig.from_json(data["features"]), profile=profile)
