"""Recordings as a page: waveform, spectrum and envelope spectrum of each axis."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from itertools import pairwise
from string import Template
from typing import TYPE_CHECKING, Any

from kilotune.recordings.look import AxisLook, Look
from kilotune.report.charts import NARROW, WIDE
from kilotune.report.svg import Plot, padded
from kilotune.version import __version__

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

MOST_FILES, MOST_AXES = 24, 6
_BLOCK = 4096  # samples of one spectrum; the mean of all blocks is shown
_DECADES = 1e-5  # below this part of the highest line lies rounding


def render_looks(looks: Sequence[Look]) -> str:
    """The whole page as HTML; it refers to no other file."""
    template = Template(resources.files("kilotune.report").joinpath("template.html").read_text(encoding="utf-8"))
    sections = [_file(look) for look in looks[:MOST_FILES]]
    if len(looks) > MOST_FILES:
        sections.append(f'<p class="about">{len(looks) - MOST_FILES} more files are not drawn.</p>')
    count = len(looks)
    return template.substitute(
        version=escape(__version__),
        title=escape(looks[0].recording.name if count == 1 else f"{count} recordings"),
        subtitle="",
        story="",
        tiles="",
        sections="\n".join(sections),
    )


def _file(look: Look) -> str:
    r = look.recording
    gaps = f", {look.gaps} gaps" if look.gaps else ""
    about = f"{r.rate_hz:g} Hz (from {r.rate_from}), {r.seconds:.3f} s{gaps}; values are in {r.unit}"
    body = "".join(_axis(look, i, axis) for i, axis in enumerate(look.axes[:MOST_AXES]))
    notes = "".join(f"<li>{escape(n)}</li>" for n in r.notes)
    tail = f'<ul class="notes">{notes}</ul>' if notes else ""
    return f'<section><h2>{escape(r.name)}</h2><p class="about">{escape(about)}</p>{body}{tail}</section>'


def _axis(look: Look, index: int, axis: AxisLook) -> str:
    import numpy as np

    r = look.recording
    values = r.samples[:, index].astype(np.float64)
    longest = max(r.stretches, key=lambda s: s.samples.shape[0]).samples[:, index].astype(np.float64)
    figures = [f"dc {axis.dc:.4g}", f"rms {axis.rms:.4g}", f"peak {axis.peak:.4g} {r.unit}"]
    if axis.kurtosis is not None and axis.crest is not None:
        figures += [f"crest {axis.crest:.2f}", f"kurtosis {axis.kurtosis:.2f}"]
    pictures = [_waveform(values, r.rate_hz, r.unit, axis.channel.name)]
    if longest.size >= 64:
        frequency, amplitude = _spectrum(longest, r.rate_hz)
        pictures.append(_lines(frequency, amplitude, f"amplitude, {r.unit} rms", f"Spectrum, axis {axis.channel.name}"))
        frequency, amplitude = _spectrum(_envelope(longest), r.rate_hz)
        shown = frequency <= r.rate_hz / 8
        title = f"Envelope spectrum, axis {axis.channel.name}"
        pictures.append(_lines(frequency[shown], amplitude[shown], f"envelope, {r.unit} rms", title))
    head = f"<h3>Axis {escape(axis.channel.name)}, given in {escape(axis.channel.unit)}</h3>"
    return f'{head}<p class="about">{escape(", ".join(figures))}</p>{"".join(pictures)}'


def _waveform(values: Floats, rate_hz: float, unit: str, name: str) -> str:
    """Lowest and highest value of each column of the picture, so that no peak is lost."""
    import numpy as np

    def draw(width: float, css: str) -> str:
        plot = Plot(width, 190, left=64)
        columns = min(values.size, int(width))
        edges = np.linspace(0, values.size, columns + 1).astype(int)
        points: list[tuple[float, float]] = []
        for a, b in pairwise(edges):
            part = values[a:b]
            at = (a + b) / 2 / rate_hz
            points += [(at, float(part.min())), (at, float(part.max()))]
        x = plot.x_scale(0, max(values.size / rate_hz, 1e-9))
        y = plot.y_scale(*padded(float(values.min()), float(values.max())))
        plot.axes(x, y, "seconds of samples", unit)
        plot.path([(x(t), y(v)) for t, v in points], "curve thin after")
        return plot.svg(f"Waveform, axis {name}", css)

    return draw(WIDE, "wide") + draw(NARROW, "narrow")


def _lines(frequency: Floats, amplitude: Floats, label: str, title: str) -> str:
    import numpy as np

    top = float(amplitude.max()) if amplitude.size else 0.0
    if not top > 0:
        return f'<p class="about">{escape(title)}: nothing moves.</p>'

    def draw(width: float, css: str) -> str:
        plot = Plot(width, 210, left=64)
        x = plot.x_scale(0, float(frequency[-1]))
        y = plot.y_scale(max(float(amplitude[amplitude > 0].min()), top * _DECADES) * 0.9, top * 1.3, log=True)
        plot.axes(x, y, "frequency, Hz", label)
        step = max(1, -(-amplitude.size // int(width / 2)))
        kept = [i + int(np.argmax(amplitude[i : i + step])) for i in range(0, amplitude.size, step)]
        plot.path([(x(float(frequency[i])), y(max(float(amplitude[i]), y.lo))) for i in kept], "curve thin after")
        return plot.svg(title, css)

    return f"<h3>{escape(title.partition(',')[0])}</h3>" + draw(WIDE, "wide") + draw(NARROW, "narrow")


def _spectrum(values: Floats, rate_hz: float) -> tuple[Floats, Floats]:
    """(frequencies without 0, amplitude in rms of each line): mean power of blocks with a Hann window."""
    import numpy as np

    size = min(_BLOCK, values.size)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    power: Any = 0.0
    starts = range(0, values.size - size + 1, size)
    for start in starts:
        block = values[start : start + size]
        power = power + np.abs(np.fft.rfft((block - block.mean()) * hann)) ** 2
    # The window passes half of a tone's amplitude.
    amplitude = np.sqrt(power / len(starts)) * (2 / (0.5 * size)) / np.sqrt(2)
    return np.fft.rfftfreq(size, 1 / rate_hz)[1:], amplitude[1:]


def _envelope(values: Floats) -> Floats:
    """Of the upper three quarters of the band, where knocks of bearings ring, by the analytic signal."""
    import numpy as np

    kept = values[: min(values.size, 1 << 18)]
    lines = np.fft.fft(kept - kept.mean())
    half = kept.size // 2
    lines[: half // 4] = 0
    lines[half:] = 0
    return np.abs(2 * np.fft.ifft(lines))  # type: ignore[no-any-return]
