"""What a report says beside its pictures: every file, plain measures and baselines, and where the change lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kilotune.report.data import Spectrum, Table
from kilotune.studies.baselines import missing
from kilotune.studies.evaluation import Windows, baseline_rows, judged
from kilotune.studies.recommending import Row, rates, recommend
from kilotune.studies.sides import compare
from kilotune.studies.windows import measure
from kilotune.terms import Q10

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kilotune.device.learning import LearnOptions
    from kilotune.image.features import FeatureConfig
    from kilotune.image.image import Image
    from kilotune.recordings import Recording
    from kilotune.studies.before_after import Stage, Study

    Floats = npt.NDArray[np.float64]

MOST_SPECTRA, MOST_BANDS, MOST_PAIRED = 3, 8, 200
DB = 3.0103  # of one log2 of energy
BEFORE, AFTER = "the device, before learning", "the device, after learning"


@dataclass(frozen=True, slots=True)
class Findings:
    rows: tuple[Row, ...]  # baselines, then the device before and after
    tables: tuple[Table, ...]
    spectra: tuple[Spectrum, ...]
    notes: tuple[str, ...]
    verdict: str  # of the comparison with plain baselines


def findings(
    found: Study,
    image: Image,
    *,
    learn: Sequence[Recording],
    healthy: Sequence[Recording],
    fault: Sequence[Recording],
    options: LearnOptions,
) -> Findings:
    """`found` of the same recordings."""
    config = image.features
    assert config is not None
    parts = [tuple(measure(image, side)) for side in (learn, healthy, fault)]
    windows = Windows(parts[0], parts[1], parts[2], config, options)
    plain = baseline_rows(image, windows)
    device = [
        _device_row(name, stage, windows, image) for name, stage in ((BEFORE, found.before), (AFTER, found.after))
    ]
    rows = (*plain, *device)
    matched = Matched.of(windows, [*healthy], [*fault])
    tables = (
        against_baselines(rows), file_by_file(device[1]), measures(windows, (*healthy, *fault)), matched.bands(config),
    )  # fmt: skip
    absent = tuple(f"not compared: {name}" for name in missing())
    doubts = absent + tuple(d.text for d in compare([*learn, *healthy], fault, config.full_scale_g))
    _, why = recommend([*plain, device[1]])
    return Findings(rows, tuple(t for t in tables if t.rows), matched.spectra(config), doubts, why)


def _device_row(name: str, stage: Stage, windows: Windows, image: Image) -> Row:
    from kilotune.targets.fit import ram_budget

    sides: dict[str, list[list[float]]] = {"healthy": [], "fault": []}
    for part, measured in zip(stage.parts, (*windows.test, *windows.fault), strict=True):
        alive = measured.alive
        sides[part.truth].append([w.score for w in part.windows if w.score is not None and alive[w.index]])
    limit = float("inf") if stage.threshold is None else stage.threshold
    row = judged(name, "device", sides["healthy"], sides["fault"], limit, windows)
    return replace(row, ram_bytes=sum(ram_budget(image).values()), image_bytes=len(image.content))


# --- tables ----------------------------------------------------------------------------------------------


def against_baselines(rows: Sequence[Row]) -> Table:
    return Table(
        "Beside plain baselines",
        "The same windows, as many held back, thresholds by the same rule. In brackets: 95 % intervals, in which files "
        "count, not only windows. An alarm is sustained while 3 of 5 consecutive windows are above the threshold.",
        ("scored by", "AUC", "false alarms", "alarms an hour", "sustained an hour", "detected"),
        tuple(
            (
                r.name, f"{r.separation.auc:.3f}{_span(r, 'auc', 1, 2)}",
                f"{100 * r.separation.false_alarms:.1f} %{_span(r, 'false_alarms', 100, 0)}",
                f"{r.alarms_per_hour or 0:.0f}", f"{r.sustained_per_hour or 0:.0f}",
                f"{100 * r.separation.detection:.1f} %{_span(r, 'detection', 100, 0)}",
            )
            for r in rows
        ),
    )  # fmt: skip


def _span(row: Row, which: str, scale: float, digits: int) -> str:
    if row.intervals is None:
        return ""
    low, high = getattr(row.intervals, which)
    return f" ({scale * low:.{digits}f} to {scale * high:.{digits}f})"


def file_by_file(row: Row) -> Table:
    return Table(
        "File by file",
        "After learning, at the threshold that the device set itself.",
        ("file", "is", "windows", "anomalous", "sustained alarm"),
        tuple(
            (
                f.name, "healthy" if f.truth == "healthy" else "faulty", str(f.windows),
                f"{100 * f.anomalous / max(1, f.windows):.1f} %", "yes" if f.sustained else "no",
            )
            for f in row.files
        ),
    )  # fmt: skip


def measures(windows: Windows, recordings: Sequence[Recording]) -> Table:
    """What every handbook measures, axis by axis."""
    import numpy as np

    rows = []
    for measured, recording in zip((*windows.test, *windows.fault), recordings, strict=True):
        middle = 2.0 ** np.median(measured.statistics, axis=0) if len(measured) else np.zeros((recording.axes, 6))
        for axis in range(recording.axes):
            rms, peak, crest, kurtosis = middle[axis, :4]
            cells = (f"{1000 * rms:.1f}", f"{1000 * peak:.1f}", f"{crest:.2f}", f"{kurtosis:.2f}")
            rows.append((recording.name if axis == 0 else "", "xyzw"[axis], *cells))
    return Table(
        "RMS, peak, crest factor and kurtosis",
        "Medians over the windows of each file, the mean of each window removed; 3 is the kurtosis of noise.",
        ("file", "axis", "RMS, mg", "peak, mg", "crest factor", "kurtosis"),
        tuple(rows),
    )


# --- equal operating points ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """One window."""

    recording: Recording
    index: int


@dataclass(frozen=True, slots=True)
class Matched:
    """Faulty windows, each beside the healthy one that is nearest in its operating point.

    Speed and load raise or lower most of the spectrum, a fault some parts of it: the median over all bands is the
    operating point's, and what differs beyond is the fault's.
    """

    healthy: Floats  # (windows, features) log2
    fault: Floats
    places: tuple[tuple[Place, ...], tuple[Place, ...]]

    @classmethod
    def of(cls, windows: Windows, healthy: Sequence[Recording], fault: Sequence[Recording]) -> Matched:
        import numpy as np

        values, places = [], []
        for side, recordings in ((windows.test, healthy), (windows.fault, fault)):
            live = [(m, np.flatnonzero(m.alive), r) for m, r in zip(side, recordings, strict=True)]
            values.append(np.concatenate([m.features_q10[at].astype(float) / Q10 for m, at, _ in live]))
            places.append(tuple(Place(r, int(k)) for _, at, r in live for k in at))
        return cls(values[0], values[1], (places[0], places[1]))

    def nearest(self, fault: int) -> int:
        """Index of the healthy window that differs least in the middle of its bands."""
        import numpy as np

        return int(np.median(np.abs(self.healthy - self.fault[fault]), axis=1).argmin())

    def rise(self) -> Floats:
        """(features,) log2, mean over faulty windows, each against its healthy one."""
        import numpy as np

        step = max(1, len(self.fault) // MOST_PAIRED)
        return np.asarray(
            np.mean([self.fault[k] - self.healthy[self.nearest(k)] for k in range(0, len(self.fault), step)], axis=0)
        )

    def spread(self) -> Floats:
        """(features,) log2: by how much healthy windows of one operating point differ, each from its nearest one."""
        import numpy as np

        step = max(1, len(self.healthy) // MOST_PAIRED)
        differences = []
        for k in range(0, len(self.healthy), step):
            apart = np.median(np.abs(self.healthy - self.healthy[k]), axis=1)
            apart[k] = np.inf
            differences.append(self.healthy[k] - self.healthy[int(apart.argmin())])
        return np.asarray(np.sqrt(np.mean(np.square(differences), axis=0) / 2) + 1e-3)

    def bands(self, config: FeatureConfig) -> Table:
        about = "The faulty windows, each against the healthy window of the nearest operating point."
        rows = []
        if len(self.fault) and len(self.healthy):
            rise = self.rise()
            spread = self.spread()
            for k in sorted(range(len(rise)), key=lambda k: -abs(rise[k]) / spread[k])[:MOST_BANDS]:
                rows.append((config.names()[k], f"{DB * rise[k]:+.1f} dB", f"{rise[k] / spread[k]:+.1f}"))
        header = ("band", "change", "in sigmas of healthy windows of one operating point")
        return Table("Bands that raised the score", about, header, tuple(rows))

    def typical(self) -> int:
        """The faulty window of middle rise, which stands for the others."""
        import numpy as np

        rises = [float(np.abs(self.fault[k] - self.healthy[self.nearest(k)]).mean()) for k in range(len(self.fault))]
        return int(np.argsort(rises)[len(rises) // 2])

    def spectra(self, config: FeatureConfig) -> tuple[Spectrum, ...]:
        """Of that window and its healthy one, axis by axis."""
        import numpy as np

        if not len(self.fault) or not len(self.healthy):
            return ()
        bad = self.typical()
        pair = (self.places[0][self.nearest(bad)], self.places[1][bad])
        n = config.window
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
        frequency = np.fft.rfftfreq(n, 1 / config.rate_hz)[1:]

        def amplitude(block: Any) -> Any:
            # One-sided amplitude in g rms of each bin: the Hann window passes half of a tone's amplitude.
            spectrum = np.abs(np.fft.rfft((block - block.mean(0)) * hann[:, None], axis=0))[1:]
            return spectrum * (2 / (0.5 * n)) / np.sqrt(2)

        a, b = (amplitude(_samples(place, config)) for place in pair)
        words = tuple(f"{p.recording.name}, {p.index * config.hop / config.rate_hz:.2f} s" for p in pair)
        return tuple(
            Spectrum("xyzw"[i], _floats(frequency), _floats(a[:, i]), _floats(b[:, i]), words[0], words[1])
            for i in range(min(MOST_SPECTRA, a.shape[1]))
        )


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(map(float, values))


def _samples(place: Place, config: FeatureConfig) -> Any:
    """(window, axes) in g."""
    import numpy as np

    from kilotune.device.samples import to_g

    index = place.index
    for stretch in place.recording.stretches:
        count = stretch.windows(config.window, config.hop)
        if index < count:
            at = index * config.hop
            return np.asarray(to_g(stretch, config.full_scale_g)[at : at + config.window], np.float64)
        index -= count
    raise IndexError(f"{place.recording.name} has no window {place.index}")


def against_words(found: Findings) -> str:
    """The comparison with plain baselines in a sentence."""
    by_name = {r.name: r for r in found.rows}
    plain = max((r for r in found.rows if r.where == "host"), key=lambda r: (r.separation.auc, -r.cost))
    return f"The device after learning: {rates(by_name[AFTER])}. The best plain baseline, {plain.name}: {rates(plain)}."
