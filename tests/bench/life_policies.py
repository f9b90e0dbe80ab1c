"""Policies about time in Python, around the twin or a baseline of the host: what the device's own is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune.device.device import Device
from kilotune.image import metadata
from kilotune.image.base_profile import LifeSettings
from kilotune.image.features import FeatureConfig
from kilotune.studies.baselines import shrunk, student_threshold

from models import recipes
from tests.bench import learning, protocols
from tests.bench.life_data import Life, motor_windows

FIRST, HOLD = 10, 4  # records of the first phase; every HOLD-th record is held back
TWIN: dict[str, tuple[str, dict[str, Any]]] = {  # row: (method of the image, settings of learning)
    "calibration": ("bias", {"passes": 0, "scorer": "residual"}),
    "bias": ("bias", {"scorer": "residual", "force": True}),
    "pick": ("bias+head", {"scorer": "automatic"}),
}
HOST = ("rms", "crest", "kurtosis", "envelope kurtosis", "envelope energy", "z-score", "nearest", "isolation forest")


@dataclass(frozen=True)
class Policy:
    """What a policy does about time; distances in log2.

    `grow` 0: one phase and never again; else phases at FIRST, FIRST * grow, ... records. The threshold is raised by
    `allowance`, and by `measured` times the most that the last 3 phases drifted (1 while unknown). It watches only once
    a phase's records stay within `settle` of the held-back mean (0: at once), and also alarms at `anchor` from the
    first settled calibration (0: no anchor). Alarmed records are not learned from.
    """

    grow: float = 1.25
    allowance: float = 0.0
    measured: float = 0.0
    settle: float = 0.0
    anchor: float = 0.0


POLICIES = {
    "once": Policy(grow=0),
    "learning on": Policy(),
    "learning on, +1": Policy(allowance=1),
    "all, +1": Policy(allowance=1, settle=1.0, anchor=4.0),
    "all, measured": Policy(measured=1.5, settle=1.0, anchor=4.0),
}


@dataclass(frozen=True)
class Watch:
    """What was said of every record of a life."""

    above: npt.NDArray[np.float64]  # (records, windows) scores above the threshold, NaN: not watched
    alarmed: npt.NDArray[np.bool_]  # (records,)
    begin: int  # the first record that was watched


@cache
def base_model(seed: int, config: FeatureConfig) -> bytes:
    """Of the healthy motor, with the features of these lives; cached in build/bench."""
    configs = protocols.feature_configs()
    motor = motor_windows(config)
    none = np.zeros((0, config.inputs), np.int16)
    case = protocols.Detection("life", "", "life", motor, none, none, none, none, HOLD, 1)
    protocols.feature_configs, before = lambda: {**configs, "life": config}, protocols.feature_configs
    try:
        return learning.base_autoencoder(case, seed)
    finally:
        protocols.feature_configs = before


@cache
def image(
    seed: int, config: FeatureConfig, method: str, stored: int, life: LifeSettings | None = None
) -> kilotune.Image:
    return kilotune.compile(base_model(seed, config), method=method, reservoir=stored, life=life)


@dataclass
class Reservoir:
    """Windows as (record, window): an unbiased sample of the time so far (algorithm R)."""

    slots: int
    rng: np.random.Generator
    kept: list[tuple[int, int]] = field(default_factory=list)
    seen: int = 0

    def offer(self, window: tuple[int, int]) -> None:
        self.seen += 1
        if len(self.kept) < self.slots:
            self.kept.append(window)
        elif (slot := int(self.rng.integers(self.seen))) < self.slots:
            self.kept[slot] = window

    def of(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.array([x[w] for w in self.kept])


class Scorer:
    """Learned from two shares of windows; scores, `threshold` and `level` (of held-back windows) in log2."""

    def __init__(self, row: str, life: Life, learn: Reservoir, held: Reservoir, seed: int):
        self.row, self.life = row, life
        x = life.measured(row)
        a, h = learn.of(x), held.of(x)
        if row in TWIN:
            self.teach(a, h, learn.slots + held.slots, seed)
        else:
            self.fit(a, seed)
        scores = self.score(h)
        self.level = float(scores.mean())
        own = row in TWIN
        self.threshold = self.device.status().report.threshold / 1024 if own else student_threshold(scores)

    def teach(self, a: npt.NDArray[Any], h: npt.NDArray[Any], stored: int, seed: int) -> None:
        rows: list[npt.NDArray[Any]] = []
        learn, held = list(a), list(h)
        while learn or held:  # in an order in which the device holds back `held`
            back = len(rows) % HOLD == HOLD - 1
            rows.append((held or learn if back else learn or held).pop(0))
        method, settings = TWIN[self.row]
        options = {**learning.DETECT, "hold_period": HOLD, "hold_count": 1, **settings}
        own = image(seed % 2, self.life.config, method, stored)
        self.device: Device = learning.learned(own, np.array(rows, np.int16), None, options, seed)

    def fit(self, a: npt.NDArray[Any], seed: int) -> None:
        if self.row in self.life.plain:
            return
        a = a / 1024
        profile = metadata.read(base_model(seed % 2, self.life.config)).profile
        assert profile is not None
        prior = profile.feature_std.astype(float) ** 2
        self.mean, self.std = a.mean(0), np.sqrt(shrunk(a.var(0), prior, len(a), 20))
        self.near = recipes.standardise(a, self.mean, self.std)
        if self.row == "isolation forest":
            from sklearn.ensemble import IsolationForest

            self.forest = IsolationForest(random_state=seed).fit(self.near)

    def score(self, w: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        if self.row in TWIN:
            return self.device.score(np.ascontiguousarray(w, np.int16), ready_features=True).values
        if self.row in self.life.plain:
            return np.asarray(w[:, 0], np.float64)
        z = recipes.standardise(w / 1024, self.mean, self.std)
        if self.row == "isolation forest":
            return np.asarray(-8 * self.forest.score_samples(z))
        if self.row == "nearest":
            squares = np.sort(((z[:, None] - self.near) ** 2).mean(2), 1)[:, :2].mean(1)
            return np.asarray(np.log2(squares + 1e-6))
        return np.asarray(np.log2((z**2).mean(1) + 1e-6))


class Keeper:
    """A policy at work on one machine."""

    def __init__(self, life: Life, row: str, policy: Policy, seed: int, stored: int):
        self.life, self.row, self.policy, self.seed = life, row, policy, seed
        back = stored // HOLD
        self.learn, self.held = (Reservoir(s, np.random.default_rng([seed, s])) for s in (stored - back, back))
        self.scorer: Scorer | None = None
        self.anchor: Scorer | None = None
        self.settled, self.due, self.extra = not policy.settle, FIRST, 0.0
        self.near: list[float] = []  # of each record since the last phase, above the held-back mean
        self.drifts: list[float] = []

    def phase(self, t: int) -> None:
        policy = self.policy
        if self.near:
            self.drifts.append(max(0.0, float(np.quantile(self.near, 0.6))))
            self.settled |= t >= 2 * FIRST and self.drifts[-1] < policy.settle
        drift = max(self.drifts[-3:]) if len(self.drifts) > 1 else 1.0
        self.extra = policy.allowance + policy.measured * drift
        self.scorer, self.near = Scorer(self.row, self.life, self.learn, self.held, self.seed), []
        self.due = max(t + 2, round(t * policy.grow)) if policy.grow else len(self.life.features)
        if self.settled and policy.anchor and self.anchor is None:
            self.anchor = Scorer("z-score", self.life, self.learn, self.held, self.seed)

    def judge(self, t: int) -> tuple[npt.NDArray[np.float64], bool]:
        """Scores of a record above the threshold, and whether it is alarmed."""
        assert self.scorer is not None
        scores = self.scorer.score(self.life.measured(self.row)[t])
        self.near.append(float(np.median(scores)) - self.scorer.level)
        above = scores - self.scorer.threshold - self.extra
        alarmed = bool(np.median(above) > 0)
        if self.anchor is not None:
            far = float(np.median(self.anchor.score(self.life.features[t]))) - self.anchor.level
            alarmed |= far > self.policy.anchor
        return above, alarmed

    def keep(self, t: int) -> None:
        if not self.policy.grow and t >= FIRST:
            return
        share = self.held if t % HOLD == HOLD - 1 else self.learn
        for w in range(self.life.features.shape[1]):
            share.offer((t, w))


def watch(life: Life, row: str, policy: Policy, seed: int, stored: int) -> Watch:
    n, keeper = len(life.features), Keeper(life, row, policy, seed, stored)
    above, alarmed, begin = np.full(life.features.shape[:2], np.nan), np.zeros(n, bool), n
    for t in range(n):
        if t == keeper.due:
            keeper.phase(t)
        if keeper.scorer is not None:
            scores, alarm = keeper.judge(t)
            if keeper.settled:
                above[t], alarmed[t], begin = scores, alarm, min(begin, t)
        if not alarmed[t]:
            keeper.keep(t)
    return Watch(above, alarmed, begin)
