"""A device with a sensor and no host: it learns, commits and detects, and a host may look at it."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

import kilotune
import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.base_profile import LifeSettings
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.link.messages import Chip, DeviceStatus, Phase
from kilotune.link.status import RefusedError, statuses
from kilotune.link.transport import open_port
from kilotune.recordings.simulator import Machine
from kilotune.studies.base_models import base_model
from kilotune.targets import native
from kilotune.targets.feed import Feed
from kilotune.targets.process import DeviceProcess
from kilotune.targets.twin import Twin

from tests.support import small_models

RATE_HZ = 1600.0
HEALTHY_S, FAULT_S = 60.0, 20.0


@pytest.fixture(scope="module")
def ae() -> Image:
    """The shipped model for sensors of 1.6 kHz."""
    return kilotune.compile(base_model("vibration_ae_1k6"), method="bias+head")


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of a healthy machine, then a fault, in g."""
    machine = Machine.random(3)
    parts = [
        machine.record(HEALTHY_S, RATE_HZ, seed=1),
        machine.record(FAULT_S, RATE_HZ, fault="outer", severity=1.0, seed=2),
    ]
    path = tmp_path_factory.mktemp("life") / "life.npz"
    np.savez(path, samples=np.vstack(parts).astype(np.float32), rate_hz=RATE_HZ)
    return path


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("life") / "healthy.npz"
    samples = Machine.random(3).record(20.0, RATE_HZ, seed=5)
    np.savez(path, samples=samples.astype(np.float32), rate_hz=RATE_HZ)
    return path


def run(
    state: Path, image: Image | None, feed: Feed, *options: str
) -> contextlib.AbstractContextManager[tuple[str, DeviceProcess]]:
    """The recording is measured frame by frame, regardless of its rate."""
    content = image.content if image is not None else None
    return native.run(state, content, options=[*feed.arguments(state, None), *options])


def lights(state: Path) -> list[tuple[str, float]]:
    """What the LED showed, and when, in seconds of the device."""
    text = (state / "native.log").read_text(encoding="utf-8")
    return [(name, int(ms) / 1000) for name, ms in re.findall(r"light (\w+) at (\d+) ms", text)]


def settled(device: Device, samples: int, timeout_s: float = 60.0) -> None:
    """Waits until the device has measured all of a recording; asks only for its status."""
    end = time.monotonic() + timeout_s
    while device.status().sensor.samples < samples:
        assert time.monotonic() < end, device.status()
        time.sleep(0.05)


def frames_of(image: Image, windows: int) -> int:
    """Samples per axis that this many windows take."""
    assert image.features is not None
    return image.features.window + (windows - 1) * image.features.hop


def test_a_device_alone_learns_commits_and_detects(ae: Image, life: Path, healthy: Path, tmp_path: Path) -> None:
    with run(tmp_path, ae, Feed("lis2dw12", str(life), virtual=True)) as (port, _):
        # Not a byte goes to the device until its log says that it has seen the fault.
        end = time.monotonic() + 120
        while not any(name == "anomaly" for name, _ in lights(tmp_path)[-1:]):
            assert time.monotonic() < end, lights(tmp_path)
            time.sleep(0.05)
        seen = lights(tmp_path)
        with Device(open_port(port, timeout_s=10), image=ae) as device:
            settled(device, int((HEALTHY_S + FAULT_S) * RATE_HZ * 0.99))
            status = device.status()
            adapter = device.pull()
    assert [name for name, _ in seen[:2]] == ["learn", "detect"]
    learned_s = next(t for name, t in seen if name == "detect")
    assert learned_s == pytest.approx(frames_of(ae, 64) / RATE_HZ, abs=0.1)
    alarms = [t for name, t in seen if name == "anomaly"]
    # The first window with the fault in it alarms, at most one of the healthy ones before (1 % are expected to).
    assert any(HEALTHY_S <= t <= HEALTHY_S + 1.5 for t in alarms), seen
    assert len([t for t in alarms if t < HEALTHY_S]) <= 1
    assert status.checkpoint.sequence == 1
    assert (status.phase, status.sensor.chip) == (Phase.detect, Chip.lis2dw12)
    assert statuses()[status.sensor.sensor_state].name in ("ok", "sensor_failed")  # the recording may have ended
    assert statuses()[status.sensor.commit_state].name == "ok"
    assert status.sensor.overruns == 0
    assert status.sensor.anomalies >= 0.8 * FAULT_S * RATE_HZ / 512
    assert adapter.config.windows_seen == 64

    # After a power cycle it detects from the first window on, with what it committed.
    with (
        run(tmp_path, None, Feed("lis2dw12", str(healthy), virtual=True)) as (port, _),
        Device(open_port(port, timeout_s=10), image=ae) as device,
    ):
        settled(device, int(20 * RATE_HZ * 0.99))
        again = device.status()
        assert device.pull().sha256 == adapter.sha256
    assert again.checkpoint.sequence == 1
    assert again.sensor.anomalies <= 2
    shown = [name for name, _ in lights(tmp_path)]
    assert shown[0] == "detect"
    assert "learn" not in shown


def test_what_it_learned_alone_is_what_the_twin_learns(ae: Image, life: Path, tmp_path: Path) -> None:
    """So a drift between driver, window and learner would show."""
    with np.load(life) as file:
        samples = file["samples"][: frames_of(ae, 64)]
    # What a LIS2DW12 at +-8 g gives of a file that has 16 bits for +-16 g: 14 bits, half digits away from 0.
    assert ae.features is not None
    assert ae.features.full_scale_g == 8
    counts = np.clip(np.rint(samples.astype(np.float64) / 16 * 32768), -32768, 32767)
    exact = np.trunc(counts * 16_000_000 / 32768) * 8192 / 8_000_000
    digits = np.clip(np.sign(exact) * np.floor(np.abs(exact) + 0.5), -8192, 8191) * 4
    with Twin(ae) as twin:
        twin.learn(digits.astype(np.int16))
        expected = twin.pull_bytes()
    with (
        run(tmp_path, ae, Feed("lis2dw12", str(life), virtual=True)) as (port, _),
        Device(open_port(port, timeout_s=10), image=ae) as device,
    ):
        settled(device, int(55 * RATE_HZ))
        assert device.status().phase is Phase.detect
        assert device.pull_bytes() == expected


def test_a_device_alone_goes_on_learning_and_its_light_tells_the_state(
    life: Path, healthy: Path, tmp_path: Path
) -> None:
    image = kilotune.compile(base_model("vibration_ae_1k6"), method="bias+head", life=LifeSettings())
    with (
        run(tmp_path, image, Feed("lis2dw12", str(life), virtual=True)) as (port, _),
        Device(open_port(port, timeout_s=10), image=image) as device,
    ):
        settled(device, int((HEALTHY_S + FAULT_S) * RATE_HZ * 0.99))
        status, told = device.status(), device.life()
    due, phases = 10, 0
    while due <= told.age:
        due, phases = due + max(2, (due + 2) // 4), phases + 1
    assert (told.lives, told.phases) == (1, phases)
    assert told.age == pytest.approx((HEALTHY_S + FAULT_S) * RATE_HZ / 512 / 4, abs=told.phases + 2)
    assert status.checkpoint.sequence == told.phases  # each of them is in flash
    assert statuses()[status.sensor.commit_state].name == "ok"
    shown = [name for name, _ in lights(tmp_path)]
    assert shown[:4] == ["learn", "settle", "learn", "settle"]
    assert shown[shown.index("detect") - 1] == "learn"  # it settles by a phase, not between two
    assert "settle" not in shown[shown.index("detect") :]

    with (
        run(tmp_path, None, Feed("lis2dw12", str(healthy), virtual=True)) as (port, _),
        Device(open_port(port, timeout_s=10), image=image) as device,
    ):
        settled(device, int(20 * RATE_HZ * 0.99))
        again = device.life()
    assert again.settled == told.settled
    assert again.phases >= told.phases
    assert not again.alarm
    # It begins with what it knew, which may be the alarm of the fault.
    assert "settle" not in [name for name, _ in lights(tmp_path)]


def small(rate_hz: float = 800.0, full_scale_g: float = 8.0, axes: int = 3) -> Image:
    features = FeatureConfig(
        rate_hz=rate_hz, window=64, hop=64, fft_points=64, axes=axes, bands=8, full_scale_g=full_scale_g
    )
    inputs = 8 * axes
    return kilotune.compile(small_models.chain(inputs, 8, inputs, seed=3), features=features, alone_windows=16)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Four seconds at 800 Hz: no two frames alike."""
    rng = np.random.default_rng(1)
    path = tmp_path / "rows.npz"
    np.savez(path, samples=rng.normal(0, 0.5, (3200, 3)).astype(np.float32), rate_hz=800.0)
    return path


@pytest.mark.parametrize("chip", ["lis2dw12", "adxl345", "lsm6dso"])
def test_every_sensor_works_through_the_firmware(chip: str, rows: Path, tmp_path: Path) -> None:
    image = small(833.0 if chip == "lsm6dso" else 800.0)
    feed = Feed(chip, str(rows), virtual=True)
    with (
        run(tmp_path, image, feed) as (port, _),
        Device(open_port(port, timeout_s=10), image=image) as device,
    ):
        settled(device, 3150)
        status = device.status()
    assert (status.sensor.chip, status.sensor.overruns, status.phase) == (Chip[chip], 0, Phase.detect)
    assert status.windows_learned == 16


@pytest.mark.parametrize(
    ("chip", "rate_hz"), [("lis2dw12", 1600.0), ("adxl345", 1600.0), ("adxl345", 3200.0), ("lsm6dso", 1667.0)]
)
def test_every_sensor_works_on_spi_and_the_adxl345_beyond_800_hz(
    chip: str, rate_hz: float, rows: Path, tmp_path: Path
) -> None:
    image = small(rate_hz)
    for spi in (True, False):
        state = tmp_path / f"spi-{spi}"
        state.mkdir()
        with (
            run(state, image, Feed(chip, str(rows), virtual=True, spi=spi)) as (port, _),
            Device(open_port(port, timeout_s=10), image=image) as device,
        ):
            if chip == "adxl345" and not spi:
                assert statuses()[device.status().sensor.sensor_state].name == "wrong_rate"
                continue
            settled(device, 3150)
            status = device.status()
        assert (status.sensor.chip, status.sensor.overruns, status.phase) == (Chip[chip], 0, Phase.detect)
        assert status.windows_learned == 16


@pytest.mark.parametrize("chip", ["lis2dw12", "adxl345", "lsm6dso"])
def test_the_self_test_passes_on_a_machine_that_stands_still_and_sensing_goes_on(chip: str, tmp_path: Path) -> None:
    image = small(833.0 if chip == "lsm6dso" else 800.0)
    still = tmp_path / "still.npz"
    rng = np.random.default_rng(4)
    np.savez(still, samples=rng.normal((0.01, 0.02, 1.0), 0.002, (8000, 3)).astype(np.float32), rate_hz=800.0)
    with (
        run(tmp_path, image, Feed(chip, str(still), virtual=False)) as (port, _),
        Device(open_port(port, timeout_s=10), image=image) as device,
    ):
        test = device.sensor_test()
        assert test.passed
        assert abs(test.x_mg) > 200
        settled(device, device.status().sensor.samples + 200)
        assert device.status().sensor.sensor_state == 0


@pytest.mark.parametrize(
    ("image", "status"),
    [
        (lambda: small(rate_hz=850.0), "wrong_rate"),
        (lambda: small(full_scale_g=12.0), "wrong_range"),
        (lambda: small(axes=4), "wrong_axes"),
        (lambda: kilotune.compile(small_models.chain(8, 4, 8, seed=1)), "no_features"),
    ],
)
def test_a_model_for_another_sensor_is_refused_by_name(image, status: str, rows: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    made = image()
    with (
        run(tmp_path, made, Feed("lis2dw12", str(rows), virtual=False)) as (port, _),
        Device(open_port(port, timeout_s=10), image=made) as device,
    ):
        sensor = device.status().sensor
        assert statuses()[sensor.sensor_state].name == status
        assert sensor.samples == sensor.sensing == 0
        with pytest.raises(RefusedError, match=statuses()[sensor.sensor_state].text):
            device.raw()


def test_a_model_that_the_sensor_cannot_feed_is_not_taken_and_the_next_one_learns_alone(tmp_path: Path) -> None:
    recording = tmp_path / "minutes.npz"
    rng = np.random.default_rng(2)
    np.savez(recording, samples=rng.normal(0, 0.5, (96000, 3)).astype(np.float32), rate_hz=800.0)
    image = small()
    with (
        run(tmp_path, image, Feed("lis2dw12", str(recording), virtual=False)) as (port, _),
        Device(open_port(port, timeout_s=10)) as device,
    ):
        wrong = {"wrong_rate": small(1333.0), "wrong_range": small(full_scale_g=5.0), "wrong_axes": small(axes=4)}
        for code, other in wrong.items():
            with pytest.raises(RefusedError, match="the device's sensor") as refused:
                device.replace_model(other)
            assert refused.value.code == code
            assert device.info().image_hash == image.image_hash.hex()
            settled(device, device.status().sensor.samples + 200)  # it goes on
            assert device.status().sensor.sensor_state == 0
        device.replace_model(small(400.0))
        end = time.monotonic() + 30
        while (status := device.status()).checkpoint.sequence == 0:
            assert time.monotonic() < end, status
            time.sleep(0.1)
        assert (status.sensor.sensor_state, status.phase) == (0, Phase.detect)
        assert status.windows_learned >= 16


def test_a_host_that_learns_takes_over_and_the_sensor_waits(rows: Path, tmp_path: Path) -> None:
    image = small()
    samples = np.random.default_rng(2).normal(0, 0.3, (64 * 20, 3)).astype(np.float32)
    with Twin(image) as twin:
        twin.learn(samples, passes=1)
        expected = twin.pull_bytes()
    feed = Feed("lis2dw12", str(rows), virtual=False)
    with (
        run(tmp_path, image, feed) as (port, _),
        Device(open_port(port, timeout_s=10), image=image) as device,
    ):
        settled(device, 200)
        assert device.status().sensor.alone == 1
        device.learn(samples, passes=1)
        assert device.pull_bytes() == expected
        status = device.status()
        assert (status.sensor.alone, status.checkpoint.sequence) == (0, 0)


def test_raw_samples_are_what_the_sensor_measured(rows: Path, tmp_path: Path) -> None:
    window = 256
    features = FeatureConfig(rate_hz=800.0, window=window, hop=64, fft_points=256, axes=3, bands=8, full_scale_g=8.0)
    image = kilotune.compile(small_models.chain(24, 8, 24, seed=3), features=features, alone_windows=0)
    with np.load(rows) as file:
        measured_g = file["samples"]
    count = len(measured_g)
    with (
        run(tmp_path, image, Feed("lis2dw12", str(rows), virtual=True)) as (port, _),
        Device(open_port(port, timeout_s=10), image=image) as device,
    ):
        settled(device, count)
        at, parts = 0, []
        while at < count:
            found = device.raw(at)
            assert found.frames_first == max(at, count - window)  # what is older has gone
            assert (found.frames_end, found.gaps) == (count, 0)
            parts.append(np.frombuffer(found.data, "<i2").reshape(-1, 3))
            at = found.frames_first + len(parts[-1])
        # The recording is over, so the sensor is silent.
        with pytest.raises(RefusedError, match="stopped measuring"):
            _raw_until_refused(device, at)
    assert len(parts) > 3
    # Half a digit of the chip and half of the file.
    raw_g = np.vstack(parts) * 8.0 / 32768
    np.testing.assert_allclose(raw_g, measured_g[-window:], atol=0.5 * 8 / 8192 + 0.5 * 16 / 32768 + 1e-5)


def _raw_until_refused(device: Device, at: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        assert device.raw(at).data == b""
        time.sleep(0.02)


def test_the_button_makes_it_learn_anew(rows: Path, tmp_path: Path) -> None:
    image = small()
    feed = Feed("lis2dw12", str(rows), virtual=True)
    with (
        run(tmp_path, image, feed, "--press-at", "2000") as (port, _),
        Device(open_port(port, timeout_s=10), image=image) as device,
    ):
        settled(device, 3150)
        assert device.status().checkpoint.sequence == 2
    names = [(name, t) for name, t in lights(tmp_path) if name in ("learn", "detect")]
    assert [n for n, _ in names][:4] == ["learn", "detect"] * 2
    assert [t for n, t in names if n == "learn"][1] == pytest.approx(2.03, abs=0.01)


RETRY_S = 1.0  # between a sensor's failure and the attempt to set it up anew


@pytest.mark.parametrize("spi", [False, True], ids=["i2c", "spi"])
@pytest.mark.parametrize(
    ("chip", "upset"),
    [
        ("lis2dw12", ""), ("lis2dw12", ":0x25=4"),  # CTRL6: 2 g
        ("adxl345", ""), ("adxl345", ":0x2C=12"),  # BW_RATE: 400 Hz
        ("lsm6dso", ""), ("lsm6dso", ":0x10=0x70"),  # CTRL1_XL: 2 g
    ],
)  # fmt: skip
def test_a_sensor_that_resets_itself_or_changes_is_told_and_set_up_anew(
    chip: str, upset: str, spi: bool, tmp_path: Path
) -> None:
    """Seen in real time: learning goes on, and after the upset the device detects again."""
    image = small(833.0 if chip == "lsm6dso" else 800.0)
    recording = tmp_path / "minute.npz"
    rng = np.random.default_rng(3)
    np.savez(recording, samples=rng.normal(0, 0.5, (48000, 3)).astype(np.float32), rate_hz=800.0)
    state = tmp_path / "state"
    state.mkdir()
    upset_s = 3.0
    options = ("--sensor-upset", f"{round(upset_s * 1000)}{upset}")
    with (
        run(state, image, Feed(chip, str(recording), virtual=False, spi=spi), *options) as (port, _),
        Device(open_port(port, timeout_s=10), image=image) as device,
    ):
        failed = _wait(device, "sensor_failed")
        assert failed.sensor.sensing == 0
        again = _wait(device, "ok")
        settled(device, again.sensor.samples + 200)
        assert device.status().sensor.sensing == 1
    shown = [(name, t) for name, t in lights(state) if t >= upset_s - 0.2]
    assert shown[0][0] == "trouble", shown
    silence_s = 3 * 16 / 800
    assert upset_s <= shown[0][1] <= upset_s + silence_s + 0.15, shown  # this computer may be busy
    assert shown[1][0] in ("detect", "anomaly", "learn"), shown
    assert shown[1][1] - shown[0][1] == pytest.approx(RETRY_S + 0.05, abs=0.3)


def _wait(device: Device, name: str, timeout_s: float = 20.0) -> DeviceStatus:
    end = time.monotonic() + timeout_s
    while statuses()[(status := device.status()).sensor.sensor_state].name != name:
        assert time.monotonic() < end, status
        time.sleep(0.02)
    return status


def test_a_sensor_that_stays_silent_stays_failed(rows: Path, tmp_path: Path) -> None:
    """As one whose recording is over: it answers, and measures nothing, however often it is set up."""
    image = small()
    with (
        run(tmp_path, image, Feed("lis2dw12", str(rows), virtual=True)) as (port, _),
        Device(open_port(port, timeout_s=10), image=image) as device,
    ):
        settled(device, 3200)
        _wait(device, "sensor_failed")
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            assert statuses()[device.status().sensor.sensor_state].name == "sensor_failed"
            time.sleep(0.01)
    assert [name for name, _ in lights(tmp_path)][-1] == "trouble"


def test_a_commit_that_flash_does_not_take_shows_on_the_light_and_in_the_status(
    ae: Image, life: Path, tmp_path: Path
) -> None:
    """Three sectors of 16 KB are too small for this adapter. The device detects with what it learned nevertheless."""
    with (
        run(tmp_path, ae, Feed("lis2dw12", str(life), virtual=True), "--flash-chip", "stm32f4-16k") as (port, _),
        Device(open_port(port, timeout_s=10), image=ae) as device,
    ):
        settled(device, frames_of(ae, 80))
        status = device.status()
        assert statuses()[status.sensor.commit_state].name == "no_checkpoint_room"
        assert (status.checkpoint.sequence, status.phase) == (0, Phase.detect)
        with pytest.raises(RefusedError, match=r"17,344 bytes.*16,272"):
            device.commit()
    names = [name for name, _ in lights(tmp_path)]
    assert names[0] == "learn"
    assert names.count("detect") <= 1  # for the moment before the commit
    assert "detect" not in names[names.index("trouble") :]


def test_a_device_without_a_sensor_says_so(tmp_path: Path) -> None:
    image = small()
    with (
        native.run(tmp_path, image.content) as (port, _),
        Device(open_port(port, timeout_s=10), image=image) as device,
    ):
        assert device.status().sensor.chip is Chip.none
        for ask in (device.raw, device.sensor_test):
            with pytest.raises(KilotuneError, match="no sensor answers"):
                ask()
