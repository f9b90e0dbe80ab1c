"""A board computes the same as the twin, bit for bit, and refuses what it cannot use."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import pytest
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.link import messages
from kilotune.link.messages import Kind
from kilotune.link.status import RefusedError, statuses
from kilotune.targets.twin import Twin


def rows(image: Image, n: int, seed: int = 0) -> npt.NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-128, 128, (n, image.input_bytes)).astype(np.int8)


def vibration(n: int, seed: int, level: float = 1.0) -> npt.NDArray[np.int16]:
    rng = np.random.default_rng(seed)
    tone = 2000 * np.sin(np.arange(n)[:, None] * np.array([0.3, 0.7, 1.1]))
    return np.asarray(level * tone + rng.normal(0, 300, (n, 3))).astype(np.int16)


def adapter_crc(device: Device) -> int:
    return zlib.crc32(device.pull_bytes())


def test_inference_is_the_twins(device: Device, image: Image) -> None:
    x = rows(image, 20)
    with Twin(image) as twin:
        expected = twin.infer(x)
    assert len(np.unique(expected)) > 10
    np.testing.assert_array_equal(device.infer(x), expected)


def test_the_adapter_after_500_steps_is_the_twins(device: Device, image: Image) -> None:
    x = rows(image, 16)
    with Twin(image) as twin:
        base = adapter_crc(twin)
        twin.train(x, steps=500, lr=0.01)
        expected = adapter_crc(twin)
    device.train(x, steps=500, lr=0.01)
    assert adapter_crc(device) == expected != base


def test_learning_from_a_stream_is_the_twins(device: Device, image: Image) -> None:
    healthy, faulty = vibration(3000, seed=1), vibration(1200, seed=2, level=4.0)
    with Twin(image) as twin:
        report = twin.learn(healthy, passes=2)
        expected = twin.score(faulty)
        learned = adapter_crc(twin)
    assert len(expected.results) == (1200 - 64) // 40 + 1
    assert len({r.score for r in expected.results}) > 10
    assert device.learn(healthy, passes=2) == report
    assert adapter_crc(device) == learned
    told = device.score(faulty)
    assert told.results == expected.results
    assert told.lost == 0
    assert device.status().link.bad_crc == 0


@pytest.mark.usefixtures("needs_flash")
def test_a_pulled_adapter_runs_on_the_twin_and_a_pushed_one_on_the_device(device: Device, image: Image) -> None:
    x = rows(image, 4)
    device.train(x, steps=25, lr=0.01)
    pulled = device.pull()
    with Twin(image) as twin:
        base, unchanged = twin.pull(), twin.infer(x)
        twin.push(pulled)
        np.testing.assert_array_equal(twin.infer(x), device.infer(x))
        assert not np.array_equal(device.infer(x), unchanged)
    before = device.status().checkpoint.sequence
    pushed = device.push(base)
    assert pushed.sequence > before
    np.testing.assert_array_equal(device.infer(x), unchanged)
    device.reset()
    assert device.status().checkpoint == pushed
    np.testing.assert_array_equal(device.infer(x), unchanged)


def refused(device: Device, kind: Kind, *fields: object) -> str:
    with pytest.raises(RefusedError) as error:
        device.client.request(kind, messages.encode(*fields))
    return statuses()[error.value.status].name


def test_what_makes_no_sense_is_refused_and_changes_nothing(device: Device, image: Image) -> None:
    x = rows(image, 2)
    output, before = device.infer(x), adapter_crc(device)
    assert refused(device, Kind.infer, bytes(image.input_bytes + 1)) == "bad_argument"
    assert refused(device, Kind.infer, "text") == "bad_message"
    assert refused(device, Kind.infer) == "bad_message"
    assert refused(device, Kind.samples, 9, 0, 0, bytes(6)) == "stale_stream"
    assert refused(device, Kind.learn_end) == "wrong_state"
    assert refused(device, Kind.pull, 1 << 20, 16) == "bad_argument"
    assert refused(device, Kind.push, 0, bytes(4)) == "wrong_state"
    with pytest.raises(KilotuneError):
        device.score(vibration(200, seed=1)[:, :2])
    np.testing.assert_array_equal(device.infer(x), output)
    assert adapter_crc(device) == before


def test_noise_on_the_line_is_counted_and_never_obeyed(device: Device, image: Image) -> None:
    x = rows(image, 2)
    output = device.infer(x)
    before = device.status().link
    noise = np.random.default_rng(5).integers(0, 256, 300).astype(np.uint8).tobytes()
    device.client.transport.write(b"\0" + noise + b"\0")
    np.testing.assert_array_equal(device.infer(x), output)
    after = device.status().link
    assert after.bad_crc + after.bad_cobs > before.bad_crc + before.bad_cobs
