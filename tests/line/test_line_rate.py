"""A stream keeps a serial line busy with samples: at least 90 % of it, and none is lost."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from kilotune import _native
from kilotune.link.client import Client
from kilotune.link.messages import StreamKind
from kilotune.link.stream import SampleStream, StreamSpec

from tests.bench import line_rate
from tests.line.virtual_line import BITS_A_BYTE, VirtualLine
from tests.support.faulty_line import Clock

LEAST_PAYLOAD = 0.9
ATTEMPTS = 5  # this computer may be busy with something else


@pytest.mark.parametrize("baud", line_rate.BAUDS)
@pytest.mark.parametrize("axes", line_rate.AXES)
def test_the_native_device_takes_nine_tenths_of_the_line_and_loses_nothing(axes: int, baud: int) -> None:
    image = line_rate.image(axes)
    for _ in range(ATTEMPTS):
        rate = line_rate.measure(image, baud, seconds=0.4)
        assert (rate.lost, rate.dropped, rate.damaged) == (0, 0, 0)
        if rate.payload >= LEAST_PAYLOAD:
            return
    pytest.fail(f"{100 * rate.payload:.1f} % of {baud} baud")


@pytest.mark.parametrize("credit", [1024, 8192])
@pytest.mark.parametrize("baud", line_rate.BAUDS)
@pytest.mark.parametrize("axes", [1, 2, 3, 4])
def test_frames_and_credit_leave_nine_tenths_of_any_line(axes: int, baud: int, credit: int) -> None:
    """In virtual time: with a ring of 1,024 bytes the host must turn an answer round within one frame."""
    image = line_rate.image(axes)
    clock = Clock()
    turn_s = 0.5 * 400 * BITS_A_BYTE / baud if credit == 1024 else 0.005
    device = _native.Session(image.content, bytearray(b"\xff" * 65536))
    line = VirtualLine(lambda data: bytes(device.exchange(data)), clock, baud=baud, host_delay_s=turn_s)
    client = Client(line, clock=clock, rng=random.Random(1))
    hello = client.open()
    features = image.features
    assert features is not None
    spec = StreamSpec(StreamKind.samples, 1_600_000, axes, hop=features.hop, window=features.window)
    stream = SampleStream(client, replace(hello, credit=credit), spec, 1)
    samples = np.random.default_rng(1).integers(-9000, 9000, (30_000 // axes, axes)).astype("<i2")
    start = clock()
    results = stream.push(samples.tobytes()) + stream.drain()
    payload = samples.nbytes * BITS_A_BYTE / baud / (clock() - start)
    results += stream.finish()
    assert [r.index for r in results] == list(range((len(samples) - features.window) // features.hop + 1))
    assert (client.repeats, stream.lost) == (0, 0)
    assert payload >= LEAST_PAYLOAD, f"{100 * payload:.1f} %"
