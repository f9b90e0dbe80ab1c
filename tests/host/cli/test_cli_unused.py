"""Options that a command would ignore, given its other options: refused, never ignored."""

from __future__ import annotations

from pathlib import Path

import kilotune
import numpy as np
import pytest
from kilotune.cli.compiling import compile_options
from kilotune.cli.options import learn_options
from kilotune.compiler import compile as compiler
from kilotune.compiler.options import SEARCHED, CompileOptions
from kilotune.device.learning import LearnOptions
from kilotune.errors import EXIT_USAGE
from kilotune.export.kernel_package import ECOSYSTEMS, PACKAGE, PUBLISHED, Publisher, metadata
from kilotune.terms import Loss

from tests.support import small_models
from tests.support.command_line import commands, ended, failed

RAM = ("--ram", "20k", "--calibration", "x.npy", "--search-steps", "3")
TWIN = ("-t", "twin")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, calibration data and recordings, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("m.tflite").write_bytes(small_models.chain(12, 8, 12, seed=3))
    Path("c.tflite").write_bytes(small_models.chain(12, 8, 12, seed=3, softmax=True))
    np.save("x.npy", np.random.default_rng(1).integers(-128, 128, (32, 12)).astype(np.int8))
    Path("a.csv").write_text("x,y,z\n" + "0.1,0.2,0.3\n" * 64)
    kilotune.compile("m.tflite").save("m.ktm")
    return tmp_path


COMPILE = ("compile", "m.tflite", "-o", "r.ktm")
STREAM = ("stream", "a.csv", "--rate", "1000", *TWIN)
SIMULATED = ("stream", "synthetic:healthy", *TWIN)


@pytest.mark.parametrize(
    ("command", "unused"),
    [
        # A search chooses what is trained: also where the option says what is the default anyway.
        ((*COMPILE, *RAM, "--method", "lora"), "--method"),
        ((*COMPILE, *RAM, "--method", "bias"), "--method"),
        ((*COMPILE, *RAM, "--layers", "0"), "--layers"),
        ((*COMPILE, *RAM, "--last-layers", "1"), "--last-layers"),
        ((*COMPILE, *RAM, "--channels", "2"), "--channels"),
        ((*COMPILE, *RAM, "--rank", "2", "--layers", "0"), "--layers, --rank"),
        ((*COMPILE, "--search-steps", "400"), "--search-steps"),
        ((*COMPILE, "--calibration", "x.npy", "--plot", "p.svg"), "--calibration, --plot"),
        ((*COMPILE, "--rank", "2"), "rank"),
        ((*COMPILE, "--method", "head", "--layers", "0"), "layers"),
        ((*COMPILE, "--method", "channels", "--channels", "0:1", "--last-layers", "1"), "last_layers"),
        ((*COMPILE, "--early", "8"), "early"),  # the model takes no windows
        ((*COMPILE, "--alone-windows", "0"), "alone_windows"),
        ((*STREAM, "--seed", "1"), "--seed"),
        ((*STREAM, "--labels", "0", "--commit"), "--labels, --commit"),
        ((*STREAM, "--learn", "--learn-files", "1"), "--learn-files"),
        ((*STREAM, "--learn", "--guard", "all"), "--guard"),
        ((*STREAM, "--learn", "--passes", "0", "--lr", "0.1"), "--lr"),
        ((*STREAM, "--unit", "g", "--sensitivity", "0.1"), "--sensitivity"),
        ((*SIMULATED, "--start", "1"), "--start"),
        ((*SIMULATED, "--unit", "ms2", "--scale", "2"), "--unit, --scale"),
        (("report", "--image", "m.ktm", "--healthy", "synthetic:healthy", "--fault", "synthetic:outer", "-o", "r.html",
          *TWIN, "--offset", "1"), "--offset"),
        (("evaluate", "--healthy", "synthetic:healthy", "--fault", "synthetic:outer", "--start", "0"), "--start"),
        (("demo", "--rate", "100", "--seconds", "2"), "--rate, --seconds"),
        (("record-to-resd", "a.csv", "-o", "r.txt", "--rate", "100", "--format", "g", "--begin", "1"), "--begin"),
        (("record-to-resd", "a.csv", "-o", "r.txt", "--format", "adxl345", "--channel", "0"), "--channel"),
        (("info", "-p", "/dev/null", "--state", "flash"), "--state"),
        (("provision", *TWIN, "--remove", "--reading", "open"), "--reading"),
        (("library", "--for", "zephyr", "-o", "new", "--url", ""), "--url"),
        (("library", "--for", "esp-idf", "-o", "new", "--url", "https://example.org", "--maintainer", "me"),
         "--maintainer"),
        (("flash", "--board", "native", "--probe", "1"), "--probe"),
        (("flash", "--board", "qemu:mps2-an386", "--drive", "."), "--drive"),
        (("flash", "--board", "nrf52840dk", "--drive", "."), "--drive"),
        (("flash", "--board", "rpi_pico", "--drive", ".", "--probe", "1"), "--drive"),
        (("flash", "--board", "rpi_pico", "--state", "flash"), "--state"),
    ],
)  # fmt: skip
def test_what_would_be_passed_over_is_refused(
    desk: Path, command: tuple[str, ...], unused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(p.name for p in desk.iterdir())
    error = failed(capsys, *command)
    assert error["exit_code"] == EXIT_USAGE
    assert unused in error["message"] + error["hint"]
    assert sorted(p.name for p in desk.iterdir()) == before


def test_evaluate_offers_only_what_it_looks_at() -> None:
    offered = {p.name for p in commands()["evaluate"].params}
    assert {"passes", "lr", "seed"} <= offered
    assert not offered & {"scorer", "resume", "recalibrate", "guard"}


def test_a_search_goes_with_everything_that_it_does_not_decide(desk: Path) -> None:
    assert ended(*COMPILE, *RAM, "--momentum", "--recompute", "--loss", "reconstruction") == 0
    image = kilotune.Image.load("r.ktm")
    assert (image.method, image.state_bytes > 0) == ("chosen", True)


def test_a_search_measures_the_loss_that_was_asked_for(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("y.npy", np.zeros((32, 12), np.int8))
    assert failed(capsys, *COMPILE, *RAM, "--loss", "regression")["message"].endswith("needs --targets")
    assert ended(*COMPILE, *RAM, "--loss", "regression", "--targets", "y.npy") == 0
    assert kilotune.Image.load("r.ktm").loss is Loss.regression


@pytest.mark.parametrize("spelling", ["classification", "cross_entropy"])
def test_both_spellings_of_a_loss_compile_the_same_image(desk: Path, spelling: str) -> None:
    assert ended("compile", "c.tflite", "-o", "r.ktm", "--loss", spelling) == 0
    assert Path("r.ktm").read_bytes() == kilotune.compile("c.tflite", loss=Loss.classification).content


def test_what_nobody_asks_for_is_what_the_library_does_and_a_device_that_goes_on_learning_where_it_can(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[CompileOptions] = []
    compile_with = compiler.compile_with

    def noted(model: Path, options: CompileOptions) -> kilotune.Image:
        seen.append(options)
        return compile_with(model, options)

    monkeypatch.setattr(compiler, "compile_with", noted)
    assert ended(*COMPILE) == 0
    assert ended(*COMPILE, "--once") == 0
    assert seen == [CompileOptions(life="auto"), CompileOptions()]
    assert set(SEARCHED) - {"chosen"} <= compile_options.names


def test_what_a_package_says_of_its_publisher_is_what_can_be_said() -> None:
    for ecosystem in ECOSYSTEMS:
        plain = metadata(ecosystem, PACKAGE, Publisher())
        told = {
            name
            for name, publisher in (("maintainer", Publisher(maintainer="A. Body")), ("url", Publisher(url="http://a")))
            if metadata(ecosystem, PACKAGE, publisher) != plain
        }
        assert told == PUBLISHED[ecosystem], ecosystem


def test_learn_options_are_the_librarys_by_default() -> None:
    command = commands()["stream"]
    with command.make_context("stream", ["a.csv"]) as context:
        asked = {name: context.params[name] for name in learn_options.names}
        assert learn_options.build(**asked) == LearnOptions()
