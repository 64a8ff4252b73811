"""A simulated stage for bench/promotion.py: traffic, drift, outages, clusters, broken feeds.

Two strata (light, and heavy users drawn three times as likely, who convert and spend more), a
daily traffic cycle, base rates that drift, outages that hit both arms, requests that fail in
clusters per user and in bursts, heavy-tailed amounts. Everything follows from one seed, and all
looks of a stage are drawn at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import ndtr

from huidu.promotion import (
    DESIGN,
    Alpha,
    Arm,
    AsOf,
    Cell,
    CellCounts,
    Harm,
    Kind,
    Look,
    Metric,
    Plan,
    StageTimes,
)

DAY = 1440
STRATA = ("w1", "w3")
SHARE_OF_USERS = np.array([0.9, 0.1])
RELATIVE_DRAW = np.array([1.0, 3.0])
P99 = 2.3263478740408408


@dataclass(frozen=True)
class World:
    """What a stage is like. `effects` are treated over control ratios by metric; 1 is harmless."""

    effects: dict[str, float] = field(default_factory=dict)
    users_per_look: float = 1000.0  # both arms, at look_min = 5
    days: int = 14
    look_min: int = 5
    early_min: int = 0  # so many minutes, a multiple of look_min, begin with a look every minute
    epochs: tuple[tuple[float, float], ...] = ((0, 0.05),)  # (from day, share treated)
    closed: tuple[tuple[float, float], ...] = ()  # days on which nobody is enrolled: (from, to)
    drift: float = 0.3
    outages: int = 3
    bursts: float = 0.0  # sigma of the log error rate from look to look, both arms alike
    spread: float = 1.7  # sigma of log amounts
    overdue: bool = False
    margins: tuple[tuple[str, float], ...] = ()  # by metric; else MARGINS
    fault: str = ""  # dead | stalled | zero
    fault_metric: str = ""
    fault_arm: str = "t"  # t | c | both
    fault_day: float = 0.0

    def spans(self) -> np.ndarray:
        """Minutes from each look to the one before it."""
        later = (self.days * DAY - self.early_min) // self.look_min
        return np.array([1] * self.early_min + [self.look_min] * later)


MARGINS = {"success": 0.1, "complaints": 0.3, "api_errors": 0.25, "latency": 0.1, "amount": 0.2}
# So tight that a stage at its margin cannot be told by its harm: the proof itself is on trial.
TIGHT = {"success": 0.04, "complaints": 0.12, "api_errors": 0.06, "latency": 0.02, "amount": 0.08}
HARM = {"success": Harm.DECREASE, "amount": Harm.DECREASE}
EDGES = (200.0, 200.0 * np.exp(0.5 * 1.2816), 200.0 * np.exp(0.5 * P99))


def metrics(world: World) -> tuple[Metric, ...]:
    """The five guards, and overdue loans where the world has them."""
    margins = MARGINS | dict(world.margins)
    kinds = {
        "success": Kind.BINARY,
        "complaints": Kind.BINARY,
        "api_errors": Kind.USERS_RATIO,
        "latency": Kind.LATENCY,
        "amount": Kind.MEAN,
    }
    found = []
    for name, kind in kinds.items():
        extra: dict[str, Any] = {}
        if kind is Kind.LATENCY:
            edges = (*EDGES, EDGES[2] * (1 + margins[name]))
            extra = {"edges_ms": edges, "baseline_index": 2, "margin_index": 3}
        harm = HARM.get(name, Harm.INCREASE)
        found.append(Metric(name=name, kind=kind, harm=harm, margin_rel=margins[name], **extra))
    if world.overdue:
        found.append(Metric(name="overdue", kind=Kind.BINARY_DELAYED, margin_rel=0.5, lag_days=30))
    return tuple(found)


def plan(world: World, *, minimum_days: float = 7.0, rolls_back: bool = True) -> Plan:
    """The plan of a stage in this world. Its cells are in order of their ids.

    Without `rolls_back` hardly any harm is ever proven: the proof alone is on trial.
    """
    return Plan(
        stage=StageTimes(
            horizon_min=world.days * DAY,
            min_min=minimum_days * DAY,
            look_min=world.look_min,
            early_min=world.early_min,
        ),
        alpha=Alpha() if rolls_back else Alpha(rollback=1e-250),
        cells=tuple(
            Cell(id=f"e{epoch}.{stratum}", stratum=stratum, epoch=epoch, rho=float(rho))
            for epoch, (_, share) in enumerate(world.epochs)
            for stratum, rho in zip(STRATA, _rho(share), strict=True)
        ),
        metrics=metrics(world),
        design=DESIGN,
    )


def _rho(share: float) -> np.ndarray:
    rho: np.ndarray = np.asarray(share * RELATIVE_DRAW / float(SHARE_OF_USERS @ RELATIVE_DRAW))
    return rho


class Stage:
    """One random stage of a world; `look(k)` is its k-th look, k = 1, 2, ...

    `enrolled` (looks, cells, arms) and `values` by metric (looks, cells, arms, numbers) hold the
    cumulative readings of every look; cells are epoch by epoch, in it stratum by stratum.
    """

    def __init__(self, world: World, seed: int | np.random.SeedSequence) -> None:
        self.world = world
        rng = np.random.default_rng(seed)
        spans = world.spans()
        self.looks, self.minutes = len(spans), np.cumsum(spans)
        t = (self.minutes - spans / 2) / DAY
        cycle = 1.0 + 0.6 * np.sin(2 * np.pi * (t + rng.random()))
        wander = np.cumsum(rng.normal(0, np.sqrt(spans / DAY), self.looks))
        self.level = np.exp(world.drift * (0.5 * np.sin(2 * np.pi * t / 7 + 1) + 0.3 * wander))
        self.down = np.zeros(self.looks, dtype=bool)
        for start in rng.random(world.outages) * world.days:
            self.down |= (t >= start) & (t < start + rng.uniform(20, 120) / DAY)
        mean = world.users_per_look * spans / 5 * cycle
        for begin, end in world.closed:
            mean[(t >= begin) & (t < end)] = 0.0
        users = rng.poisson(mean[:, None] * SHARE_OF_USERS)
        starts = np.array([day for day, _ in world.epochs])
        self.epoch = np.searchsorted(starts, t, side="right") - 1
        rho = np.array([_rho(share) for _, share in world.epochs])[self.epoch]
        treated = rng.binomial(users, rho)
        # Shape (looks, strata, arms): users enrolled between two looks.
        self.users = np.stack([treated, users - treated], axis=2)
        self._draw(rng)

    def _draw(self, rng: np.random.Generator) -> None:
        n = self.users
        drawn: dict[str, np.ndarray] = {
            "success": rng.binomial(n, self._rate((0.045, 0.095), "success"))[..., None],
            "complaints": rng.binomial(n, self._rate((0.0048, 0.0068), "complaints"))[..., None],
            "api_errors": self._requests(rng, self._rate((0.02, 0.024), "api_errors")),
            "latency": self._latency(rng),
            "amount": self._amounts(rng),
        }
        self.values = {name: np.cumsum(self._by_epoch(x), axis=0) for name, x in drawn.items()}
        if self.world.overdue:
            late = self._overdue(rng, self._rate((0.02, 0.015), "overdue"))
            self.values["overdue"] = np.cumsum(late, axis=0)
        self.enrolled = np.cumsum(self._by_epoch(n[..., None]), axis=0)[..., 0]

    def _rate(self, base: tuple[float, float], name: str) -> np.ndarray:
        by_stratum = np.array(base)[None, :, None] * self.level[:, None, None]
        return np.asarray(np.minimum(by_stratum * [self.world.effects.get(name, 1.0), 1.0], 0.95))

    def _by_epoch(self, increments: np.ndarray) -> np.ndarray:
        """From (looks, strata, ...) to (looks, cells, ...): each look's belong to its epoch."""
        if len(self.world.epochs) == 1:
            return increments
        is_in = self.epoch[:, None] == np.arange(len(self.world.epochs))
        shape = is_in.shape + (1,) * (increments.ndim - 1)
        spread = np.where(is_in.reshape(shape), increments[:, None], 0)
        return spread.reshape(len(increments), -1, *increments.shape[2:])

    def _requests(self, rng: np.random.Generator, rate: np.ndarray) -> np.ndarray:
        n = self.users
        burst = np.exp(rng.normal(0, self.world.bursts, self.looks)) if self.world.bursts else 1.0
        # An outage multiplies both arms' rates, so that the true ratio stays the effect's.
        worse = burst * np.where(self.down, 12.0, 1.0)
        # Both arms are cut alike, or the cut itself would be an effect.
        most = 0.95 / max(1.0, self.world.effects.get("api_errors", 1.0))
        worse = np.minimum(worse, most / rate[:, :, 1].max(axis=1))
        bad = rng.binomial(n, rate * worse[:, None, None])
        requests = rng.poisson(9.0 * n) + n
        more = rng.negative_binomial(np.maximum(bad, 1), 0.4) * (bad > 0)
        num = np.minimum(bad + more, requests)
        # Squares: expectations given the counts suffice, and keep one stage cheap.
        num2 = num**2 / np.maximum(bad, 1) * 1.4
        den2 = requests * (requests / np.maximum(n, 1)) + 9.0 * n
        numden = num * 11.0
        return np.stack([bad, num, requests, num2, den2, numden], axis=3)

    def _latency(self, rng: np.random.Generator) -> np.ndarray:
        margin = (MARGINS | dict(self.world.margins))["latency"]
        edges = np.array([*EDGES, EDGES[2] * (1 + margin)])
        slower = np.where(self.down, 1.8, 1.0) * self.level**0.3
        scale = slower[:, None] * np.array([self.world.effects.get("latency", 1.0), 1.0])
        above = ndtr(-np.log(edges[None, None, :] / (200.0 * scale[:, :, None])) / 0.5)
        counts, left, before = [], self.users, np.ones_like(scale)
        for i in range(len(edges)):
            left = rng.binomial(left, np.minimum(above[:, None, :, i] / before[:, None, :], 1.0))
            counts.append(left)
            before = above[:, :, i]
        return np.stack(counts, axis=3)

    def _amounts(self, rng: np.random.Generator) -> np.ndarray:
        """One user in ten pays; log-normal amounts, capped at what was the 99th percentile."""
        n = self.users
        payers = rng.binomial(n, 0.1)
        flat = payers.ravel()
        drawn = rng.standard_normal(int(flat.sum()), dtype=np.float32)
        amounts = np.exp(self.world.spread * drawn).astype(np.float64)
        scale = np.broadcast_to(
            np.array([1.0, 1.6])[None, :, None]
            * np.array([self.world.effects.get("amount", 1.0), 1.0]),
            n.shape,
        )
        amounts *= np.repeat(scale.ravel(), flat)
        cap = np.exp(1.2816 * self.world.spread)  # 90th percentile of payers, 99th of all users
        capped = np.minimum(amounts, cap)
        ends = np.cumsum(flat)
        out = [n]
        for value in (amounts, amounts * amounts, capped, capped * capped):
            total = np.concatenate([[0.0], np.cumsum(value)])
            out.append((total[ends] - total[ends - flat]).reshape(n.shape))
        return np.stack(out, axis=3)

    def _overdue(self, rng: np.random.Generator, rate: np.ndarray) -> np.ndarray:
        """Events 7 to 30 days after exposure, booked to the cohort's cell as they occur.

        When a wider share treats former controls, the old epoch's cells are closed for both arms.
        """
        counts = rng.binomial(self.users, rate)
        strata, arms = counts.shape[1:]
        look, s, arm = (
            np.repeat(x, counts.ravel()) for x in (i.ravel() for i in np.indices(counts.shape))
        )
        late = look + (rng.uniform(7, 30, look.size) * DAY / self.world.look_min).astype(int)
        shares = [share for _, share in self.world.epochs]
        ends = np.full(len(shares), self.looks)
        for epoch in range(len(shares) - 1):
            if shares[epoch + 1] > shares[epoch]:
                ends[epoch] = np.searchsorted(self.epoch, epoch + 1)
        epoch = self.epoch[look]
        kept = late < ends[epoch]
        cells = len(shares) * strata
        place = ((late * cells + epoch * strata + s) * arms + arm)[kept]
        told = np.bincount(place, minlength=self.looks * cells * arms)
        return told.reshape(self.looks, cells, arms, 1)

    def treated_users(self, k: int) -> int:
        """Treated users enrolled by look k."""
        return int(self.enrolled[k - 1, :, 0].sum())

    def look(self, k: int) -> Look:
        """What the feeds say at look k, broken feed included."""
        world, i = self.world, k - 1
        t_min = float(self.minutes[i])
        broken = world.fault != "" and t_min >= world.fault_day * DAY
        rows = {name: series[i].tolist() for name, series in self.values.items()}
        if broken:
            self._break(rows)
        enrolled = self.enrolled[i].tolist()
        cells = []
        for c in range(len(enrolled)):
            t, u = (
                Arm(enrolled[c][a], {name: _shape(name, row[c][a]) for name, row in rows.items()})
                for a in (0, 1)
            )
            cells.append(CellCounts(t, u, f"e{c // 2}.{STRATA[c % 2]}"))
        as_of: dict[str, AsOf | None] = dict.fromkeys(self.values, AsOf(t_min, t_min))
        if broken and world.fault in ("dead", "stalled"):
            until = None if world.fault == "dead" else world.fault_day * DAY
            hit = (until if world.fault_arm in (x, "both") else t_min for x in "tc")
            as_of[world.fault_metric] = AsOf(*hit)
        return Look(k=k, t_min=t_min, cells=tuple(cells), as_of=as_of)

    def _break(self, rows: dict[str, Any]) -> None:
        """Put what the broken feed says in place of what is true."""
        world = self.world
        series = self.values[world.fault_metric]
        frozen = max(0, int(world.fault_day * DAY / world.look_min) - 1)
        said: np.ndarray = series[frozen] if world.fault_day > 0 else np.zeros_like(series[0])
        for c, arms in enumerate(rows[world.fault_metric]):
            for a, label in enumerate("tc"):
                if world.fault_arm in (label, "both"):
                    arms[a] = None if world.fault == "dead" else said[c, a].tolist()


_RATIO = ("bad", "num", "den", "num2", "den2", "numden")
_MEAN = ("n", "sum", "sumsq", "sum_cap", "sumsq_cap")


def _shape(name: str, row: Any) -> Any:
    if row is None:
        return None
    if name == "api_errors":
        return dict(zip(_RATIO, row, strict=True))
    if name == "amount":
        return dict(zip(_MEAN, row, strict=True))
    return row if name == "latency" else row[0]
