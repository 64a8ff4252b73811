"""What the promotion rule is given and what it answers: frozen structs that JSON carries unchanged.

A `Plan` is fixed when a stage starts, a `Look` is what the feeds say at one moment, a `State` is
carried from look to look, an `Outcome` is the answer. Stored together they replay every decision.

Minutes count from the start of the stage. Counts are cumulative over the stage, per cell and arm.
"""

from __future__ import annotations

import enum
import math
from typing import Any, Final

import msgspec

CODE_VERSION: Final = "promotion-2"
"""Stored with every decision; raised whenever the same evidence could be answered differently."""


DESIGN: Final = 2
"""How new plans divide the evidence of harm: among guards, and among sizes of harm (see `Plan`)."""


class Kind(enum.StrEnum):
    """How a metric is measured, and so which test judges it."""

    BINARY = "binary"  # users with the event so far
    BINARY_DELAYED = "binary_delayed"  # the same, for events that come days after exposure
    USERS_RATIO = "users_ratio"  # users with at least one bad request, and sums over users
    LATENCY = "latency"  # users above each of some edges
    MEAN = "mean"  # sums and sums of squares of an amount per user, plain and capped
    GAUGE = "gauge"  # a reading without a control, with an absolute limit


class Harm(enum.StrEnum):
    """The direction in which the metric must not move."""

    INCREASE = "increase"
    DECREASE = "decrease"


class Role(enum.StrEnum):
    """What a guard may do. A guard that must prove can stop the stage as well."""

    MUST_PROVE = "must_prove"
    STOP = "stop"
    WATCH = "watch"


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One guard.

    Args:
        margin_rel: largest acceptable relative change for the worse, in (0, 1) for a decrease and
            (0, 10] for an increase. A comparative guard needs it.
        limit_abs: judge the treated users alone against this absolute limit instead (a share in
            (0, 1) of users, or a mean); for stages without control. Excludes `margin_rel`.
        lag_days: how long a delayed event may take; only told, the test needs no such number.
        edges_ms: latency edges, ascending. The harm test uses edges 0..`baseline_index`; the proof
            compares treated users beyond `edges_ms[margin_index]` with control users beyond
            `edges_ms[baseline_index]`.
        fresh_min: how many minutes ago the source may last have been complete for a promotion (for
            a gauge: for its reading to count), above 0; None is 60. A warehouse that is loaded
            once a day needs a day and the time its load takes.
        max, min: limits of a gauge; at least one. Breached for `for_looks` looks in a row: harm.
    """

    name: str
    kind: Kind
    harm: Harm = Harm.INCREASE
    margin_rel: float | None = None
    limit_abs: float | None = None
    role: Role = Role.MUST_PROVE
    lag_days: float | None = None
    fresh_min: float | None = None
    edges_ms: tuple[float, ...] = ()
    baseline_index: int | None = None
    margin_index: int | None = None
    max: float | None = None
    min: float | None = None
    for_looks: int = 3


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One weight class during one epoch of constant share.

    Args:
        rho: probability that an enrolled user of this cell is treated, in [0, 1]; a cell at 0 or 1
            has no second arm and compares nothing.
        again: its users are counted in another cell as well, where their earlier events are (see
            "After the stage" in docs/statistics.md).
    """

    id: str | int
    rho: float
    stratum: str | float | int = ""
    epoch: str | float | int = 0
    from_min: float = 0.0
    to_min: float | None = None
    again: bool = False


class StageTimes(msgspec.Struct, frozen=True, kw_only=True):
    """When a stage is looked at, in minutes.

    Args:
        look_min: between two looks.
        early_min: for so long after the start there is a look every minute as well. It judges harm
            like any other; what is counted in looks (streaks of gauges, pulses of feeds) is
            counted at those that `look_min` asks for. 0: none.
    """

    horizon_min: float
    min_min: float
    look_min: float = 5.0
    promotion_every_min: float = 1440.0
    early_min: float = 0.0

    def between(self, last_t_min: float, t_min: float) -> bool:
        """Whether a look at `t_min` lies between two that `look_min` asks for.

        Args:
            last_t_min: the look before it, -1 at the first.
        """
        if t_min >= self.early_min or last_t_min < 0:
            return False
        return math.floor(t_min / self.look_min) == math.floor(last_t_min / self.look_min)


class Alpha(msgspec.Struct, frozen=True, kw_only=True):
    """The two error budgets, each over the whole stage, shares in (0, 0.5]."""

    rollback: float = 0.05
    promote: float = 0.05


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided before the stage starts.

    Args:
        minimum_users: treated users enrolled before a promotion.
        waiver: why this stage may run without any guard; without one such a plan is refused.
        design: how the evidence of harm is divided. 1: equally among guards and sizes of harm; 2:
            more to what is slow to find (`guard_weight`, `harm_sizes`). New plans say `DESIGN`; a
            stored plan without it was made by 1, and is replayed by it.
    """

    rollout: str | int = ""
    stage: StageTimes
    alpha: Alpha = Alpha()
    cells: tuple[Cell, ...]
    metrics: tuple[Metric, ...]
    minimum_users: int = 0
    waiver: str = ""
    design: int = 1


class Arm(msgspec.Struct, frozen=True):
    """One arm of one cell: `n` users enrolled so far, `m` the readings by metric name."""

    n: float | int
    m: dict[str, Any] = msgspec.field(default_factory=dict)


class CellCounts(msgspec.Struct, frozen=True):
    """Both arms of one cell: treated and control. Without an `id` the order of the plan counts."""

    t: Arm
    c: Arm
    id: str | int | None = None


class AsOf(msgspec.Struct, frozen=True):
    """Up to which minute a source is complete, per arm; None where that is unknown."""

    t: float | None = None
    c: float | None = None


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What the feeds say at minute `t_min`; `k` numbers the looks."""

    k: int
    t_min: float
    cells: tuple[CellCounts, ...]
    gauges: dict[str, float | None] = msgspec.field(default_factory=dict)
    as_of: dict[str, AsOf | None] = msgspec.field(default_factory=dict)


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold outside the evidence. Each blocks promotion only; harm still rolls back.

    `accepted` names hold reasons a person has looked into and accepted (see `ACCEPTABLE`).
    `waiver_unsigned`: the stage relies on a waiver nobody answers for; the plan then has none.
    `left`: the stage is over; late outcomes of its users can roll back, and nothing is promoted.
    """

    approved: bool = True
    compliance_signed: bool = True
    capacity_left: bool = True
    frozen: bool = False
    paused: bool = False
    left: bool = False
    ramping: bool = False
    accepted: tuple[str, ...] = ()
    waiver_unsigned: bool = False


class Evidence(msgspec.Struct, frozen=True):
    """The last balanced reading of one metric: numbers per cell id, complete up to `as_of`."""

    as_of: float
    t: dict[str, tuple[float, ...]]
    c: dict[str, tuple[float, ...]]
    users: dict[str, tuple[float, float]]


class Pulse(msgspec.Struct, frozen=True):
    """When an arm's total last changed: tells a feed gone silent from a quiet one.

    `total` so far, reached in `changes` movements (events of a count, looks that moved a sum), and
    the `users` enrolled at the last of them.
    """

    total: float = 0.0
    changes: int = 0
    users: float = 0.0


class Proof(msgspec.Struct, frozen=True):
    """Planned looks one guard has had: information, error spent up to it, bound used."""

    information: tuple[float, ...] = ()
    spent: tuple[float, ...] = ()
    bounds: tuple[float, ...] = ()


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """How much is missing for the slowest guard if the stage is harmless.

    Days count from the stage's start; `early` to `late` holds 8 of 10 harmless stages. None means
    beyond ten times the evidence so far.
    """

    metric: str
    users: int | None
    day_early: float | None
    day: float | None
    day_late: float | None
    within_horizon: bool


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Everything carried from look to look. A new stage starts with `State()`."""

    last_k: int = -1
    last_t_min: float = -1.0
    decided: str = ""
    kinds: dict[str, str] = msgspec.field(default_factory=dict)
    users: dict[str, tuple[float, float]] = msgspec.field(default_factory=dict)
    evidence: dict[str, Evidence] = msgspec.field(default_factory=dict)
    pulses: dict[str, tuple[Pulse, Pulse]] = msgspec.field(default_factory=dict)
    streaks: dict[str, int] = msgspec.field(default_factory=dict)
    sample_ratio_broken: bool = False
    sample_ratio_log_e: float = 0.0
    proofs: dict[str, Proof] = msgspec.field(default_factory=dict)
    next_promotion_min: float | None = None
    proven_until_min: float = -1.0
    unproven: tuple[str, ...] = ()
    forecast: Forecast | None = None


class Decision(enum.StrEnum):
    HOLD = "hold"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """One reason to hold: a stable code, the metric it is about, a sentence, and its numbers."""

    code: str
    text: str
    metric: str | None = None
    values: dict[str, float] = msgspec.field(default_factory=dict)


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one guard showed at this look.

    Args:
        e_value: evidence of harm; 1 says nothing. Capped at 1e300 so that it stays JSON.
        estimate: treated over control (for latency: of the latency itself; for `limit_abs`: the
            share or mean itself; for a gauge: its reading). None while there is too little.
        low, high: 95 % interval around it, valid at every look at once (asymptotically).
        z, bound: non-inferiority statistic and the bound of the last planned look, if any.
        information: information behind `z`, in its own unit.
        as_of: minute up to which this evidence is complete.
    """

    metric: str
    e_value: float = 1.0
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    z: float | None = None
    bound: float | None = None
    information: float | None = None
    as_of: float | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one look. `code` is the reason's code, `text` an English sentence."""

    decision: Decision
    code: str
    text: str
    metric: str | None = None
    readings: tuple[Reading, ...] = ()
    missing: tuple[Missing, ...] = ()
    forecast: Forecast | None = None
    combined_e_value: float = 1.0
    sample_ratio_e_value: float = 1.0
    code_version: str = CODE_VERSION


ACCEPTABLE: Final = frozenset({"too_good_to_be_true", "silent_feed"})
"""Hold reasons that a person may accept through `Conditions.accepted`."""
