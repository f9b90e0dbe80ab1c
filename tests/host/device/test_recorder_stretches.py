"""A recording with many gaps: every one of them is in the written file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kilotune.device.recorder import LiveRecording
from kilotune.recordings import ReadOptions, read

RATE_HZ, EACH = 100.0, 5


def with_gaps(count: int) -> LiveRecording:
    """`count` stretches of EACH samples, a second of silence before each but the first."""
    n = count * EACH
    counts = np.arange(3 * n, dtype=np.int16).reshape(n, 3)
    time_s = np.arange(n) / RATE_HZ + np.arange(n) // EACH
    return LiveRecording(counts, time_s, RATE_HZ, 8.0, "lis2dw12", tuple(range(0, n, EACH)), dropped=7, overruns=count)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 300])
def test_every_stretch_is_written(count: int, tmp_path: Path) -> None:
    recording = with_gaps(count)
    recording.save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz") as found:
        assert tuple(found["stretches"]) == recording.stretches
        assert (int(found["dropped"]), int(found["overruns"])) == (7, count)


@pytest.mark.parametrize("ending", ["npz", "csv"])
@pytest.mark.parametrize("options", [ReadOptions(), ReadOptions(rate_hz=RATE_HZ)])
def test_a_file_with_many_stretches_is_read_whole_and_none_is_joined_to_the_next(
    ending: str, options: ReadOptions, tmp_path: Path
) -> None:
    recording = with_gaps(300)
    recording.save(tmp_path / f"r.{ending}")
    found = read(tmp_path / f"r.{ending}", options)
    np.testing.assert_allclose(found.samples, recording.samples_g, atol=1e-6)
    assert found.starts == recording.stretches
    np.testing.assert_allclose(found.times_s, [recording.time_s[i] for i in recording.stretches], atol=1e-6)
    assert found.rate_hz == RATE_HZ
    assert found.windows(EACH, 1) == 300
    assert found.windows(EACH + 1, 1) == 0  # a window across a gap would be none of the machine's
