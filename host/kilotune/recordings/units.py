"""Units as people write them, in the names of columns, in rows of units and in metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass

STANDARD_GRAVITY = 9.80665  # m/s^2 in one g


@dataclass(frozen=True, slots=True)
class Unit:
    """`kind`: acceleration, voltage, counts, time or other; `factor`: g, V or s in one of it."""

    name: str
    kind: str
    factor: float = 1.0


G = Unit("g", "acceleration")
COUNTS = Unit("counts", "counts")


def _acceleration(name: str, ms2: float) -> Unit:
    return Unit(name, "acceleration", ms2 / STANDARD_GRAVITY)


# As `_folded` writes them.
_WORDS: dict[str, Unit] = {}
for _unit, _names in (
    (G, "g g0 gn g_n grav gravity gravities g-force gforce standardgravity gpk grms g's gs"),
    (Unit("mg", "acceleration", 1e-3), "mg milli-g millig mgn milligravity mg0"),
    (Unit("ug", "acceleration", 1e-6), "ug microg micro-g"),
    (_acceleration("m/s^2", 1.0), "m/s^2 m/s2 m/s**2 m/s/s m/(s^2) m/sec^2 m/sec2 ms^-2 ms-2 m*s^-2 m.s^-2 m.s-2 "
     "ms2 mps2 mpss m/sˆ2 m_per_s2 m_s2 m/s^2rms meterspersecondsquared metrespersecondsquared "
     "meterpersecondsquared metrepersecondsquared meters/second^2 meter/second^2 metre/second^2 m/s²"),
    (_acceleration("cm/s^2", 0.01), "cm/s^2 cm/s2 gal cms2"),
    (_acceleration("mm/s^2", 0.001), "mm/s^2 mm/s2 mms2"),
    (_acceleration("in/s^2", 0.0254), "in/s^2 in/s2 inch/s^2"),
    (_acceleration("ft/s^2", 0.3048), "ft/s^2 ft/s2"),
    (COUNTS, "counts count lsb raw adc digit digits cts adccounts adc_counts codes code"),
    (Unit("V", "voltage"), "v volt volts vdc vac"),
    (Unit("mV", "voltage", 1e-3), "mv millivolt millivolts"),
    (Unit("uV", "voltage", 1e-6), "uv microvolt microvolts"),
    (Unit("s", "time"), "s sec secs second seconds sek sekunden seconde secondes segundos"),
    (Unit("ms", "time", 1e-3), "ms msec millis milliseconds millisecond msecs millisekunden"),
    (Unit("us", "time", 1e-6), "us usec micros microseconds microsecond usecs mikrosekunden"),
    (Unit("ns", "time", 1e-9), "ns nsec nanos nanoseconds nanosecond"),
    (Unit("min", "time", 60.0), "min minutes minute"),
    (Unit("h", "time", 3600.0), "h hours hour"),
):  # fmt: skip
    _WORDS.update(dict.fromkeys(_names.split(), _unit))
_WORDS.update(
    {
        word: Unit(word, "other")
        for word in [
            "degc",
            "c",
            "degf",
            "celsius",
            "k",
            "kelvin",
            "f",
            "rpm",
            "1/min",
            "u/min",
            "hz",
            "khz",
            "dps",
            "mdps",
            "deg/s",
            "rad/s",
            "rad",
            "deg",
            "degree",
            "degrees",
            "ut",
            "mgauss",
            "gauss",
            "tesla",
            "mt",
            "hpa",
            "pa",
            "kpa",
            "mbar",
            "bar",
            "psi",
            "%",
            "a",
            "ma",
            "w",
            "kw",
            "n",
            "nm",
            "n*m",
            "kn",
            "m",
            "mm",
            "um",
            "cm",
            "in",
            "m/s",
            "mm/s",
            "cm/s",
            "in/s",
            "ips",
            "db",
            "dba",
            "lux",
            "lx",
            "rh",
            "ppm",
            "ohm",
            "kg",
            "km/h",
            "n.m",
            "nm/s",
        ]
    }
)
_BRACKETS = re.compile(r"^(?P<bare>.*?)\s*[\(\[\{<]\s*(?P<unit>[^\(\)\[\]\{\}<>]*(?:\([^()]*\))?)\s*[\)\]\}>]\s*$")
# A unit behind a separator: `acc_x_mg`, `Zeit / s`, `a in m/s^2`, `x, g`.
_SEPARATED = re.compile(r"^(?P<bare>.+?)(?:\s+in\s+|\s*/\s+|\s+/\s*|\s*,\s*|[_\s\-.:|])(?P<unit>[^\s_]+)$")
_SUPERSCRIPTS = str.maketrans({"²": "2", "⁻": "-", "¹": "1", "µ": "u", "μ": "u", "·": "*", "×": "*", "°": "deg"})


def parse_unit(text: str) -> Unit | None:
    """The unit that these letters are, None where they are none that is known."""
    folded = _folded(text)
    if folded in _WORDS:
        return _WORDS[folded]
    folded = folded.removesuffix("rms").removesuffix("peak").rstrip("_-*")
    return _WORDS.get(folded)


def _folded(text: str) -> str:
    plain = text.strip().strip("\"'").translate(_SUPERSCRIPTS).lower()
    plain = re.sub(r"\s+", "", plain).replace("^(-2)", "^-2")
    return re.sub(r"^\[(.*)\]$|^\((.*)\)$", lambda m: m[1] or m[2] or "", plain)


def split_name(name: str) -> tuple[str, str]:
    """(bare name, letters of its unit) of a column: `acc x (m/s^2)`, `x[mg]`, `time_ms`; the unit may be empty.

    Letters in brackets count as a unit even where it is not known: then somebody has to say what it is.
    """
    text = name.strip()
    found = _BRACKETS.match(text)
    if found:
        bare, letters = found["bare"].strip(), found["unit"].strip()
        return (bare, letters) if bare else (text, letters)
    found = _SEPARATED.match(text)
    if found:
        unit = parse_unit(found["unit"])
        if unit is not None and _safe(found["bare"], found["unit"], unit):
            return found["bare"].strip(), found["unit"]
    return text, ""


_TIMELIKE = re.compile(r"(time|zeit|stamp|elapsed|temps|tiempo|uptime|clock|^t$|^ts$)", re.IGNORECASE)


def _safe(bare: str, letters: str, unit: Unit) -> bool:
    """Whether letters behind a separator mean a unit: `h` of `vib_h`, `v` of `acc_v` and `count` do not."""
    if unit.kind == "time":
        return bool(_TIMELIKE.search(bare))
    if unit.kind == "other":
        return len(letters) > 2
    if unit.kind == "voltage":
        return letters == "V" or len(letters) > 1
    return not (unit.kind == "counts" and letters.lower() in ("count", "code", "codes", "digit"))
