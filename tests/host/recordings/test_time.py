"""Rate and gaps from stamps of every unit, fine or rounded; what two readings fit is asked about."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kilotune.recordings import ReadOptions, read
from kilotune.recordings.clock import ticks_of

from tests.support.recordings import refused
from tests.support.tables import RATE_HZ, ROWS, noise, seconds, table, write

T = seconds()
X = noise(1)[:, 0]


def iso(form: str = "") -> list[str]:
    moments = [datetime(2024, 5, 1, 23, 59, 59, 900_000) + timedelta(seconds=t) for t in T.tolist()]
    return [m.strftime(form) if form else m.isoformat(timespec="microseconds") for m in moments]


STAMPS: dict[str, tuple[str, Any]] = {
    "us": ("time[us]", T * 1e6),
    "ms": ("timestamp_ms", T * 1e3),
    "ns": ("t_ns", (T * 1e9).astype(np.int64)),
    "ms that nobody says": ("timestamp", T * 1e3),
    "epoch s": ("timestamp", 1.7e9 + T),
    "epoch ms": ("timestamp", 1.7e12 + np.floor(T * 1e3)),
    "epoch us": ("timestamp", 1_700_000_000_000_000 + (T * 1e6).astype(np.int64)),
    "epoch ns": ("time", 1_700_000_000_000_000_000 + (T * 1e9).astype(np.int64)),
    "iso": ("when", iso()),
    "iso with zone": ("time", [s + "Z" for s in iso()]),
    "over midnight": ("time", iso("%H:%M:%S.%f")),
    "german": ("Zeit", iso("%d.%m.%Y %H:%M:%S.%f")),
}


@pytest.mark.parametrize("kind", STAMPS)
def test_the_rate_comes_from_stamps_in_any_unit(kind: str, tmp_path: Path) -> None:
    name, stamps = STAMPS[kind]
    r = read(write(tmp_path, table((stamps, X), f"{name},x")))
    assert r.rate_hz == pytest.approx(RATE_HZ, rel=1e-3)
    assert (r.axes, r.starts) == (1, (0,))
    assert ("guess" in r.rate_from) is (kind == "ms that nobody says")


@pytest.mark.parametrize("rate_hz", [1600.0, 800.0, 990.0, 400.0, 333.0])
def test_stamps_in_whole_milliseconds_give_the_rate_and_no_gaps(rate_hz: float, tmp_path: Path) -> None:
    stamps = np.floor(np.arange(4000) / rate_hz * 1000).astype(int)
    r = read(write(tmp_path, table((stamps, noise(1, rows=4000)[:, 0]), "time_ms,x")))
    assert r.rate_hz == pytest.approx(rate_hz, rel=1e-3)
    assert r.starts == (0,)


def test_one_stamp_a_batch_is_no_gap(tmp_path: Path) -> None:
    stamps = np.arange(4096) // 32 * 20
    r = read(write(tmp_path, table((stamps, noise(1, rows=4096)[:, 0]), "time_ms,x")))
    assert r.rate_hz == pytest.approx(1600, rel=2e-3)
    assert r.starts == (0,)


def test_lost_samples_are_gaps_and_no_slower_clock(tmp_path: Path) -> None:
    kept = np.flatnonzero(np.random.default_rng(5).random(5000) > 0.1)
    lost = int((np.diff(kept) > 1).sum())
    r = read(write(tmp_path, table((kept, noise(1, rows=kept.size)[:, 0]), "time_ms,x")))
    assert r.rate_hz == 1000
    assert len(r.starts) == lost + 1


def test_jitter_is_told_and_does_not_move_the_rate(tmp_path: Path) -> None:
    stamps = np.arange(4000) / 100 + np.random.default_rng(3).normal(0, 1e-3, 4000)
    r = read(write(tmp_path, table((stamps, noise(1, rows=4000)[:, 0]), "time_s,x")))
    assert r.rate_hz == pytest.approx(100, rel=1e-3)
    assert r.starts == (0,)
    assert any("steps of time vary" in n for n in r.notes)


def test_a_logger_that_began_anew_is_a_new_stretch(tmp_path: Path) -> None:
    r = read(write(tmp_path, table((np.tile(T, 2), np.tile(X, 2)), "time_s,x")))
    assert r.starts == (0, ROWS)
    assert r.rate_hz == RATE_HZ


def test_a_step_that_fits_two_units_is_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path, table((T * RATE_HZ * 0.05, X), "time,x"))
    assert "s or ms" in refused(path, code="no_rate").message
    assert read(path, ReadOptions(rate_hz=20_000)).rate_hz == 20_000


def test_times_that_disagree_are_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path, table((T, T * 2, X), "time_s,host_time_s,x"))
    assert "--time-column" in refused(path, code="ambiguous").hint
    assert read(path, ReadOptions(time_column="host_time_s")).rate_hz == RATE_HZ / 2


def test_a_stated_rate_far_from_the_stamps_is_asked_about_and_a_near_one_corrected(tmp_path: Path) -> None:
    far = write(tmp_path, table((T, X), "Sample rate: 800 Hz\ntime_s,x"))
    assert "--rate" in refused(far, code="ambiguous").hint
    near = write(tmp_path, table((T * 1600 / 1570, X), "Sample rate: 1600 Hz\ntime_s,x", form="%.9f"))
    r = read(near)
    assert r.rate_hz == pytest.approx(1570, rel=1e-4)
    assert any("stamps count" in n for n in r.notes)


def test_a_clock_that_is_a_little_off_is_resampled_with_a_note(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 100 * np.arange(6000) / 1570)
    path = write(tmp_path, table((np.arange(6000) / 1570, tone), "time_s,x", form="%.9f"))
    r = read(path, model_rate_hz=1600)
    assert r.rate_hz == 1600
    spectrum = np.abs(np.fft.rfft(r.samples[:4096, 0] * np.hanning(4096)))
    assert np.argmax(spectrum) * 1600 / 4096 == pytest.approx(100, abs=0.4)
    assert any("clock" in n for n in r.notes)


def test_seconds_of_a_recording_with_gaps_do_not_reach_across(tmp_path: Path) -> None:
    stamps = T.copy()
    stamps[100:] += 0.5
    path = write(tmp_path, table((stamps, X), "time_s,x"))
    r = read(path, ReadOptions(start_s=50 / RATE_HZ, seconds=100 / RATE_HZ))
    assert r.starts == (0, 50)
    assert r.times_s == pytest.approx((0.0, 0.5 + 50 / RATE_HZ))


def test_what_falls_or_stands_still_does_not_tick() -> None:
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=500), np.zeros(500), -np.arange(500.0), np.full(500, np.nan)):
        assert ticks_of(values) is None
