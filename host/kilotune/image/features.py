"""How a model's inputs are computed: windows, spectra and statistics of vibration."""

from __future__ import annotations

import itertools
import json
import math
import struct
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from kilotune.errors import KilotuneError
from kilotune.image.layout import FeatureSection
from kilotune.terms import COUNTS_AT_FULL_SCALE, Q10

FEATURE_SECTION_BYTES = FeatureSection.LAYOUT.size
STATISTICS = {"rms": 1, "peak": 2, "crest": 4, "kurtosis": 8}
MAX_FEATURES = 1024


def _refuse(what: str, hint: str) -> KilotuneError:
    return KilotuneError("bad_features", what, hint)


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """Features of one window, one axis after the other: `bands` log2 band energies, then statistics.

    `scale` is 'log', 'mel' (from `low_hz` to `high_hz`) or 'custom' (`edges_hz`, bands + 1 of them).
    `shape` is 'flat' or 'triangle'. A triangle is centred on the geometric mean of the edges and falls to zero at the
    neighbouring centres, but not within 1.5 bins.
    `reference_g2` is the energy of feature value 0, `floor_g2` the energy added before the logarithm.
    """

    rate_hz: float
    window: int = 1024
    hop: int = 1024
    fft_points: int = 1024
    axes: int = 3
    bands: int = 32
    scale: str = "log"
    low_hz: float = 10.0
    high_hz: float = 0.0  # 0: half the sampling rate
    edges_hz: tuple[float, ...] = ()
    shape: str = "flat"
    statistics: tuple[str, ...] = ()
    full_scale_g: float = 16.0  # at COUNTS_AT_FULL_SCALE
    reference_g2: float = 1e-4
    floor_g2: float = 1e-10

    def __post_init__(self) -> None:
        numbers = (
            self.rate_hz,
            self.low_hz,
            self.high_hz,
            self.full_scale_g,
            self.reference_g2,
            self.floor_g2,
        )
        if not all(math.isfinite(x) for x in (*numbers, *self.edges_hz)):
            raise _refuse("the feature settings hold a number that is not finite", "correct the settings")
        if not 16 <= self.window <= 2048:
            raise _refuse(f"the window has {self.window} samples", "16 to 2048 are possible")
        if not 1 <= self.hop <= self.window:
            raise _refuse(f"the hop is {self.hop} samples", f"1 to the window ({self.window}) are possible")
        n = self.fft_points
        if not 64 <= n <= 2048 or n & (n - 1) or n < self.window:
            raise _refuse(
                f"the FFT has {n} points for a window of {self.window}",
                "use a power of two, 64 to 2048, not smaller than the window",
            )
        if not 1 <= self.axes <= 4:
            raise _refuse(f"there are {self.axes} axes", "1 to 4 are possible")
        if not 0.001 <= self.rate_hz <= 4e6:
            raise _refuse(f"the sampling rate is {self.rate_hz} Hz", "0.001 Hz to 4 MHz are possible")
        if not 1e-6 <= self.full_scale_g <= 4000:
            raise _refuse(f"the full scale is {self.full_scale_g} g", "1e-6 to 4000 g are possible")
        if set(self.statistics) - set(STATISTICS):
            raise _refuse(f"the statistics are {list(self.statistics)}", f"known are {', '.join(STATISTICS)}")
        if not self.floor_g2 > 0 or not self.reference_g2 > 0:
            raise _refuse("reference and floor must be above 0", "the defaults suit accelerometers")
        self._check_bands()
        for name, value in (("reference", self.reference_q10), ("floor", self.floor_q10)):
            if not -32768 <= value <= 32767:
                raise _refuse(f"the {name} is out of the range of 2^-32 to 2^32", "choose it nearer to one count")

    def _check_bands(self) -> None:
        if not self.bands >= 1 or not 1 <= self.inputs <= MAX_FEATURES:
            raise _refuse(
                f"there are {self.inputs} features", f"1 to {MAX_FEATURES} are possible, with at least one band"
            )
        if self.shape not in ("flat", "triangle"):
            raise _refuse(f"there is no band shape {self.shape!r}", "use flat or triangle")
        edges = self.edges()
        if len(edges) != self.bands + 1 or any(b <= a for a, b in itertools.pairwise(edges)):
            raise _refuse("the band edges do not rise, or there is not one edge more than bands", "correct the edges")
        if edges[0] < 0 or edges[-1] > self.rate_hz / 2 * (1 + 1e-9):
            raise _refuse(
                f"the bands go from {edges[0]:g} to {edges[-1]:g} Hz",
                f"they must lie between 0 and half the sampling rate ({self.rate_hz / 2:g} Hz)",
            )
        if self.scale != "custom" and edges[0] <= 0:
            raise _refuse("the lowest band begins at 0 Hz", "give low_hz above 0")

    @property
    def features_per_axis(self) -> int:
        return self.bands + len(self.statistics)

    @property
    def inputs(self) -> int:
        """Model inputs."""
        return self.axes * self.features_per_axis

    @property
    def counts2_per_g2(self) -> float:
        return (COUNTS_AT_FULL_SCALE / self.full_scale_g) ** 2

    @property
    def reference_q10(self) -> int:
        """Q10 log2 of the reference in counts^2."""
        return round(Q10 * math.log2(self.reference_g2 * self.counts2_per_g2))

    @property
    def floor_q10(self) -> int:
        """Q10 log2 of the floor over the reference."""
        return round(Q10 * math.log2(self.floor_g2 / self.reference_g2))

    @property
    def statistics_bits(self) -> int:
        return sum(STATISTICS[s] for s in set(self.statistics))

    def names(self) -> list[str]:
        """One name per feature, in the order of the model's inputs."""
        edges = self.edges()
        axis = [f"{a:.0f}-{b:.0f} Hz" for a, b in itertools.pairwise(edges)]
        axis += [s for s in STATISTICS if s in self.statistics]
        return [f"{'xyzw'[i]} {name}" for i in range(self.axes) for name in axis]

    def edges(self) -> list[float]:
        """Band edges in Hz, bands + 1 of them."""
        high = self.high_hz or self.rate_hz / 2
        if self.scale == "custom":
            return list(self.edges_hz)
        if not 0 < self.low_hz < high:
            raise _refuse(
                f"the bands go from {self.low_hz:g} to {high:g} Hz",
                "low_hz must be above 0 and below high_hz",
            )
        if self.scale == "log":
            return [float(f) for f in np.geomspace(self.low_hz, high, self.bands + 1)]
        if self.scale == "mel":
            mel = np.linspace(_mel(self.low_hz), _mel(high), self.bands + 1)
            return [float(f) for f in 700.0 * (10.0 ** (mel / 2595.0) - 1.0)]
        raise _refuse(f"there is no band scale {self.scale!r}", "use log, mel or custom")

    def bins(self) -> list[tuple[int, int]]:
        """(first, end) FFT bin of each band. A band narrower than a bin takes the bin nearest to its middle."""
        width = self.rate_hz / self.fft_points
        top = self.fft_points // 2
        result = []
        edges = self.edges()
        for i, (low, high) in enumerate(itertools.pairwise(edges)):
            first = min(top, math.ceil(low / width - 1e-9))
            end = min(top + 1, math.ceil(high / width - 1e-9))
            if i == self.bands - 1 and high >= self.rate_hz / 2 * (1 - 1e-9):
                end = top + 1  # the highest bin belongs to the band that ends there
            if end <= first:
                first = min(top, round((low + high) / 2 / width))
                end = first + 1
            result.append((first, end))
        return result

    def triangles(self) -> list[tuple[int, int, int, int]]:
        """(first, end) FFT bin, centre and half width in 1/32 bin of each triangular band, without DC."""
        width = self.rate_hz / self.fft_points
        edges = np.maximum(np.asarray(self.edges()) / width, 0.5)
        centres = np.sqrt(edges[:-1] * edges[1:])
        spacing = np.gradient(centres) if self.bands > 1 else np.diff(edges)
        result = []
        for centre, half in zip(np.rint(32 * centres), np.rint(32 * np.maximum(spacing, 1.5)), strict=True):
            first = max(1, math.floor((centre - half) / 32) + 1)
            end = min(self.fft_points // 2 + 1, math.ceil((centre + half) / 32))
            result.append((first, end, int(centre), int(half)))
        return result

    def _band_table(self) -> bytes:
        if self.shape == "flat":
            flat = ((a, b, 0, 0, float(b - a)) for a, b in self.bins())
            bands = list(flat)
        else:
            weights = [np.maximum(h - np.abs(32 * np.arange(a, b) - c), 0).sum() for a, b, c, h in self.triangles()]
            bands = [(*band, float(w)) for band, w in zip(self.triangles(), weights, strict=True)]
        return b"".join(
            struct.pack("<HHHHhH", a, b, centre, half, round(Q10 * math.log2(weight)), 0)
            for a, b, centre, half, weight in bands
        )

    def section(self, offset: int) -> bytes:
        """Feature section and its tables (SPEC 1.6), to be placed at `offset` of the image."""
        bands = self._band_table()
        bands_at = offset + FEATURE_SECTION_BYTES
        return self.head(bands_at, bands_at + len(bands)).pack() + bands + self._tables()

    def head(self, band_table: int, tables: int) -> FeatureSection:
        """What stands in front of the tables, which lie at these offsets of the image."""
        return FeatureSection(
            window=self.window,
            hop=self.hop,
            fft_points=self.fft_points,
            axes=self.axes,
            statistics=self.statistics_bits,
            rate_mhz=round(self.rate_hz * 1000),
            full_scale_ug=round(self.full_scale_g * 1e6),
            bands=self.bands,
            features_per_axis=self.features_per_axis,
            band_table=band_table,
            tables=tables,
            reference_q10=self.reference_q10,
            floor_q10=self.floor_q10,
        )

    def _tables(self) -> bytes:
        n = self.fft_points
        tables = np.sin(2 * np.pi * np.arange(n // 4 + 1) / n)
        if self.window != n:  # otherwise the device takes the window function from the sine table
            hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window // 2 + 1) / self.window)
            tables = np.concatenate([tables, hann])
        content: bytes = np.minimum(np.rint(tables * 2.0**31), 2.0**31 - 1).astype("<i4").tobytes()
        return content

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> FeatureConfig:
        """The inverse of `to_json`; raises KilotuneError if anything is missing or has the wrong type."""
        values = checked_fields(cls, data, "feature settings")
        try:
            for name in ("edges_hz", "statistics"):
                if name in values:
                    values[name] = tuple(values[name])
            return cls(**values)
        except (TypeError, ValueError, OverflowError) as error:
            raise _refuse(
                "the feature settings hold a value of a wrong type", "create them with this release"
            ) from error


def _mel(hz: float) -> float:
    return 2595.0 * math.log10(1.0 + hz / 700.0)


def checked_fields(cls: type, data: object, what: str) -> dict[str, Any]:
    """`data` as keyword arguments of the dataclass `cls`; raises KilotuneError if they do not fit."""
    known = {f.name for f in fields(cls)}
    if not isinstance(data, dict) or not set(data) <= known:
        extra = sorted(set(map(str, data)) - known) if isinstance(data, dict) else type(data).__name__
        raise _refuse(f"the {what} are not understood: {extra}", "use the tools of the release that made them")
    return dict(data)


def decode_json(content: bytes, what: str) -> object:
    """Parsed JSON; raises a KilotuneError that names `what`."""
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise KilotuneError("bad_json", f"{what} is not valid JSON", "create or copy it again") from error
