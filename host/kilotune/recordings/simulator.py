"""A physical simulator of a rotating machine, seen by an accelerometer on its housing.

What turns (shaft, bearing, gear) makes forces that follow the shaft angle; the structure passes them on to
each axis through resonances of its own; the sensor adds noise and ends the band. Two machines differ in
everything that `Machine.random` draws: geometry, levels, and above all the path.

Models and their sources:

* Shaft: imbalance is a force that grows with the square of the speed (ISO 21940-11); misalignment adds 2x
  and axial 1x to 3x; looseness adds half orders, many harmonics and rattling.
* Bearing: defect frequencies in orders of the shaft, with n elements of diameter d on pitch diameter D,
  contact angle phi and r = d / D cos(phi), are FTF = (1 - r) / 2, BPFO = n (1 - r) / 2, BPFI = n (1 + r) / 2,
  BSF = D / (2 d) (1 - r^2) (Randall and Antoni, "Rolling element bearing diagnostics - a tutorial",
  Mechanical Systems and Signal Processing 25 (2011) 485-520). A defect strikes at this rate with a random
  slip that accumulates (Antoni and Randall, Journal of Vibration and Acoustics 125 (2003) 282-289); the load
  zone, after Stribeck's distribution, modulates the strikes of what turns through it (McFadden and Smith,
  Journal of Sound and Vibration 96 (1984) 69-82).
* Gear: mesh harmonics modulated in amplitude and phase by the shaft (McFadden, Journal of Vibration,
  Acoustics, Stress, and Reliability in Design 108 (1986) 165-170); a damaged tooth strikes once a turn.
* Path: accelerance as a sum of modes, -f^2 / (f_k^2 - f^2 + 2 i zeta f_k f), plus a direct part.

Levels and their spread from machine to machine are chosen by judgement, not fitted to any data set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np
from numpy.fft import irfft, rfft, rfftfreq

from kilotune.errors import KilotuneError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Fault = Literal["imbalance", "misalignment", "inner", "outer", "ball", "gear", "looseness"]
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)

_STANDARD_GRAVITY: Final = 9.80665
_LOWEST_INNER_RATE_HZ: Final = 12_000.0
_REFERENCE_HZ: Final = 25.0  # shaft speed at which the levels below are stated
_TAU: Final = 2 * math.pi


@dataclass(frozen=True, slots=True)
class Bearing:
    """Geometry of a rolling bearing; frequencies in orders of the shaft (inner ring turns)."""

    elements: int
    diameter_ratio: float  # element / pitch diameter
    contact_angle_rad: float

    @property
    def _ratio(self) -> float:
        return self.diameter_ratio * math.cos(self.contact_angle_rad)

    @property
    def ftf(self) -> float:
        """Cage."""
        return (1 - self._ratio) / 2

    @property
    def bpfo(self) -> float:
        """Elements over a point of the outer ring."""
        return self.elements * (1 - self._ratio) / 2

    @property
    def bpfi(self) -> float:
        """Elements over a point of the inner ring."""
        return self.elements * (1 + self._ratio) / 2

    @property
    def bsf(self) -> float:
        """Spin of an element; a defect of it strikes twice a spin."""
        return (1 - self._ratio**2) / (2 * self.diameter_ratio)


@dataclass(frozen=True, slots=True)
class Mode:
    """One resonance of the structure, with its share in each of the three axes and for each kind of force."""

    frequency_hz: float
    damping: float  # of critical
    axes: tuple[float, float, float]
    bearing: float
    gear: float
    shaft: float


@dataclass(frozen=True, slots=True)
class Sensor:
    """An accelerometer: white noise, a second-order low pass, a constant offset (tilt and zero error)."""

    noise_ug_per_rthz: float = 60.0
    bandwidth_hz: float = 10_000.0
    offset_g: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine. Levels are in g at the reference speed of 25 Hz and full load, before the path."""

    bearing: Bearing
    gear_teeth: int  # 0 = no gear
    modes: tuple[Mode, ...]
    sensor: Sensor
    nominal_rpm: float
    direct: float  # path without resonance
    runout_um: tuple[float, ...]  # displacement at 1x, 2x, ... of the shaft
    axial: float  # share of shaft forces along the shaft
    noise_g: float  # friction and flow, broadband rms
    noise_slope: float  # spectrum falls with frequency to this power
    noise_corner_hz: float  # below it the structure is stiff against friction
    bearing_g: float  # rolling noise of a healthy bearing
    gear_g: float
    line_hz: float  # mains; the motor hums at twice this
    hum_g: float
    wander: float  # slow relative speed variation, rms
    speed_exponent: float  # of noise and bearing level

    @classmethod
    def random(cls, seed: int, *, sensor: Sensor | None = None) -> Machine:
        """Draw a machine. `sensor` replaces the drawn one."""
        r = np.random.default_rng([seed, 0x6D616368])

        def log_uniform(low: float, high: float) -> float:
            return float(math.exp(r.uniform(math.log(low), math.log(high))))

        count = int(r.integers(8, 17))
        frequencies = np.exp(r.uniform(math.log(60), math.log(16_000), count))
        modes = tuple(
            Mode(
                float(f),
                log_uniform(0.01, 0.08),
                tuple(float(v) for v in r.normal(0, 0.7, 3)),  # type: ignore[arg-type]
                *(float(v) for v in r.normal(0, 1, 3)),
            )
            for f in np.sort(frequencies)
        )
        runout = log_uniform(2, 20)
        drawn = Sensor(log_uniform(20, 300), 10_000.0, tuple(r.normal(0, 0.3, 3)))
        return cls(
            bearing=Bearing(int(r.integers(7, 15)), r.uniform(0.14, 0.28), math.radians(r.uniform(0, 20))),
            gear_teeth=int(r.integers(17, 60)) if r.random() < 0.6 else 0,
            modes=modes,
            sensor=sensor or drawn,
            nominal_rpm=float(r.choice([1000, 1500, 1800, 3000])),
            direct=r.uniform(0.1, 0.4),
            runout_um=tuple(runout * log_uniform(0.3, 1) * 0.35**h for h in range(6)),
            axial=r.uniform(0.1, 0.5),
            noise_g=log_uniform(0.01, 0.15),
            noise_slope=r.uniform(0, 0.6),
            noise_corner_hz=log_uniform(50, 400),
            bearing_g=log_uniform(0.01, 0.1),
            gear_g=log_uniform(0.01, 0.15),
            line_hz=float(r.choice([50.0, 60.0])),
            hum_g=log_uniform(0.0005, 0.01),
            wander=log_uniform(0.0005, 0.005),
            speed_exponent=r.uniform(1, 2),
        )

    def record(
        self,
        seconds: float,
        rate_hz: float,
        *,
        rpm: float | None = None,
        load: float = 0.5,
        fault: Fault | None = None,
        severity: float = 0.5,
        seed: int = 0,
        axes: int = 3,
    ) -> Floats:
        """Acceleration in g, shape (round(seconds * rate_hz), axes): horizontal, vertical, axial.

        `rpm` is the speed without load, the nominal one if None. `load` and `severity` run from 0 to 1.
        The same arguments give the same record.
        """
        rpm = self.nominal_rpm if rpm is None else rpm
        _check(seconds, rate_hz, rpm, load, severity, fault, axes)
        run = _Run(self, seconds, rate_hz, rpm, load, np.random.default_rng([seed, 0x72756E]))
        level = 0.0 if fault is None else severity
        shaft = run.shaft(fault, level)
        spectra = rfft(shaft, axis=0) * run.path("shaft")
        spectra += rfft(run.rolling(fault, level))[:, None] * run.path("bearing")
        if self.gear_teeth or fault == "gear":
            spectra += rfft(run.gear(fault, level))[:, None] * run.path("gear")
        spectra += run.friction(2.0 if fault == "looseness" else 1.0, level) * run.path("shaft")
        return run.sense(spectra)[:, :axes]


def _check(
    seconds: float, rate_hz: float, rpm: float, load: float, severity: float, fault: str | None, axes: int
) -> None:
    if not (seconds > 0 and rate_hz > 0 and rpm > 0):
        raise KilotuneError("bad_argument", "seconds, rate_hz and rpm must be positive", "give positive numbers")
    if not (0 <= load <= 1 and 0 <= severity <= 1):
        raise KilotuneError("bad_argument", "load and severity must lie between 0 and 1", "1 is full load")
    if fault is not None and fault not in FAULTS:
        raise KilotuneError("bad_argument", f"unknown fault {fault!r}", f"one of {', '.join(FAULTS)}")
    if not 1 <= axes <= 3:
        raise KilotuneError("bad_argument", f"{axes} axes asked for", "the simulator has 1 to 3")


class _Run:
    """One recording: the shaft angle at an inner rate well above the sensor's, and the forces along it."""

    def __init__(
        self,
        machine: Machine,
        seconds: float,
        rate_hz: float,
        rpm: float,
        load: float,
        rng: np.random.Generator,
    ) -> None:
        self.m, self.rng, self.load, self.rate_hz = machine, rng, load, rate_hz
        self.samples = max(1, round(seconds * rate_hz))
        self.factor = max(2, math.ceil(_LOWEST_INNER_RATE_HZ / rate_hz))
        self.inner_hz = rate_hz * self.factor
        # A lead-in keeps the wrap-around of the FFT's convolution out of sight.
        self.lead = math.ceil(0.1 * rate_hz)
        self.outer = -(-(self.samples + 2 * self.lead) // 256) * 256  # keeps the FFT quick
        self.n = self.outer * self.factor
        self.f = rfftfreq(self.n, 1 / self.inner_hz)
        slip = 1 - 0.02 * load  # an induction motor gives way under load
        self.shaft_hz = rpm / 60 * slip * (1 + self.m.wander * self._slow())
        self.turns = np.cumsum(self.shaft_hz) / self.inner_hz + rng.random()
        self.speed = rpm / 60 / _REFERENCE_HZ

    def _slow(self) -> Floats:
        """Unit-variance noise below 1 Hz: drift and control of the speed."""
        steps = max(4, math.ceil(self.n / self.inner_hz) + 3)
        knots = self.rng.standard_normal(steps)
        return np.interp(np.arange(self.n) / self.inner_hz, np.arange(steps), knots)

    def _order(self, order: float, phase: float) -> Floats:
        wave: Floats = np.cos(_TAU * (order * self.turns + phase))
        return wave

    def path(self, force: Literal["shaft", "bearing", "gear"]) -> NDArray[np.complex128]:
        """Frequency response from a kind of force to the three axes: (bins, 3)."""
        response = np.full((len(self.f), 3), self.m.direct, np.complex128)
        for mode in self.m.modes:
            square = self.f**2
            shape = -square / (mode.frequency_hz**2 - square + 2j * mode.damping * mode.frequency_hz * self.f)
            response += getattr(mode, force) * shape[:, None] * np.asarray(mode.axes)
        return response

    def shaft(self, fault: Fault | None, severity: float) -> Floats:
        """Forces in step with the shaft, and the hum of the motor: (n, 3) in g."""
        rng, m = self.rng, self.m
        omega = _TAU * self.shaft_hz
        out = np.zeros((self.n, 3))
        for h, um in enumerate(m.runout_um, start=1):
            radial, axial = 1.0, m.axial
            if fault == "imbalance" and h == 1:
                radial += 1 + 12 * severity
            if fault == "misalignment":
                radial += (0.3, 10, 6)[h - 1] * severity if h <= 3 else 0.0
                axial += (3, 12, 8)[h - 1] * severity if h <= 3 else 0.0
            if fault == "looseness":
                radial += 8 * severity * h
            g = um * 1e-6 * omega**2 / _STANDARD_GRAVITY
            phase = rng.random()
            for axis, gain, turn in ((0, radial, 0.0), (1, 0.7 * radial, 0.25), (2, axial, 0.1)):
                out[:, axis] += gain * g * self._order(h, phase + turn)
        if fault == "looseness":
            g = m.runout_um[0] * 1e-6 * omega**2 / _STANDARD_GRAVITY
            for h in range(1, 14, 2):
                drift = 0.2 * self._slow()
                out[:, :2] += (severity * g * 1.5 * np.cos(_TAU * (h / 2 * self.turns + drift)))[:, None]
        hum = (
            m.hum_g
            * (0.5 + self.load)
            * np.cos(_TAU * 2 * m.line_hz * np.arange(self.n) / self.inner_hz + rng.uniform(0, _TAU))
        )
        out += hum[:, None] * np.array([1.0, 0.8, 0.2])
        return out

    def rolling(self, fault: Fault | None, severity: float) -> Floats:
        """Force of the bearing in g, (n,): rolling noise swelling with the turn, a defect's strikes."""
        m, b = self.m, self.m.bearing
        level = m.bearing_g * (0.4 + 0.6 * self.load) * self.speed**m.speed_exponent
        swell = 1 + 0.2 * self._order(1, self.rng.random()) + 0.1 * self._order(b.bpfo, self.rng.random())
        force: Floats = level * swell * self.rng.standard_normal(self.n)
        peak = 6.0 * severity**1.5 * (0.4 + 0.6 * self.load) * self.speed
        if fault == "outer":  # always at the same place of the load zone
            force += self._strikes(b.bpfo, peak, None)
        elif fault == "inner":  # turns through the load zone with the shaft
            force += self._strikes(b.bpfi, peak, 1.0)
        elif fault == "ball":  # turns through it with the cage; strikes both rings
            force += self._strikes(2 * b.bsf, 0.7 * peak, b.ftf)
        elif fault == "looseness":  # rattles once a turn
            force += self._strikes(1.0, 0.7 * peak, None)
        return force

    def gear(self, fault: Fault | None, severity: float) -> Floats:
        """Force of the gear mesh: (n,) in g."""
        m = self.m
        teeth = m.gear_teeth or 29
        level = m.gear_g * (0.2 + 0.8 * self.load) * self.speed
        depth = 0.1 + (0.6 * severity if fault == "gear" else 0.0)
        swing = depth * 0.08 * self._order(1, self.rng.random())  # in turns of the mesh
        swell = 1 + depth * self._order(1, self.rng.random()) + depth / 2 * self._order(2, self.rng.random())
        force = np.zeros(self.n)
        for h in range(1, 5):
            force += 0.5 ** (h - 1) * np.cos(_TAU * h * (teeth * self.turns + swing + self.rng.random()))
        force *= level * swell
        if fault == "gear":
            force += self._strikes(1.0, 4.0 * severity**1.5 * (0.3 + 0.7 * self.load) * self.speed, None)
        return force

    def _strikes(self, order: float, peak_g: float, zone_order: float | None) -> Floats:
        """Impulses at `order` a turn, with slip; `zone_order`: they turn through the load zone."""
        rng = self.rng
        slip = 0.0 if order == 1.0 else 0.01
        count = math.ceil((self.turns[-1] - self.turns[0]) * order * 1.1) + 4
        steps = 1 + slip * rng.standard_normal(count)
        at_turn = self.turns[0] + (np.cumsum(steps) - rng.random()) / order
        at_turn = at_turn[(at_turn > self.turns[0]) & (at_turn < self.turns[-1])]
        at = np.interp(at_turn, self.turns, np.arange(self.n, dtype=np.float64))
        # One inner sample of 40 kHz carries an impulse of 1; other inner rates the same impulse.
        size = peak_g * self.inner_hz / 40_000 * (1 + 0.15 * rng.standard_normal(len(at)))
        if zone_order is not None:
            angle = np.cos(_TAU * (zone_order * at_turn + rng.random()))
            size *= np.clip(1 - (1 - angle) / (2 * 0.4), 0, None) ** 1.5 + 0.05
        whole = np.minimum(at.astype(np.int64), self.n - 2)
        part = at - whole
        force = np.zeros(self.n)
        np.add.at(force, whole, size * (1 - part))
        np.add.at(force, whole + 1, size * part)
        return force

    def friction(self, gain: float, severity: float) -> NDArray[np.complex128]:
        """Broadband forces, partly common to the axes: spectrum (bins, 3)."""
        m = self.m
        rms = m.noise_g * (0.5 + 0.5 * self.load) * self.speed**m.speed_exponent * (1 + (gain - 1) * severity)
        # Stated for the band up to 10 kHz, whatever the inner rate.
        white = self.rng.standard_normal((self.n, 3)) + self.rng.standard_normal((self.n, 1))
        white *= rms * math.sqrt(self.inner_hz / 40_000)
        colour = (np.maximum(self.f, 300.0) / 1000.0) ** -m.noise_slope
        colour *= self.f / np.hypot(self.f, m.noise_corner_hz)
        spectrum: NDArray[np.complex128] = rfft(white, axis=0) * colour[:, None]
        return spectrum

    def sense(self, spectra: NDArray[np.complex128]) -> Floats:
        """What the sensor makes of it: (samples, 3) in g."""
        s = self.m.sensor
        ratio = self.f / s.bandwidth_hz
        spectra = spectra / (1 - ratio**2 + 1j * math.sqrt(2) * ratio)[:, None]
        # Decimation in the frequency domain, behind a filter that passes up to 0.45 of the rate.
        keep = self.outer // 2 + 1
        edge = np.clip((0.5 - self.f[:keep] / self.rate_hz) / 0.05, 0, 1)
        low = spectra[:keep] * np.sqrt(edge)[:, None] / self.factor
        g = irfft(low, self.outer, axis=0)[self.lead : self.lead + self.samples]
        noise = s.noise_ug_per_rthz * 1e-6 * math.sqrt(self.rate_hz / 2)
        out: Floats = g + noise * self.rng.standard_normal(g.shape) + np.asarray(s.offset_g)
        return out
