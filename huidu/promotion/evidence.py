"""From a look to numbers that can be compared: shapes, impossible counts, and freshness.

A stalled arm must not look like an effect, so a metric's evidence moves on only at looks where
its source was complete up to the same minute in both arms; otherwise the last such reading stays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, Final

from huidu.errors import EvidenceError
from huidu.promotion.contract import Arm, AsOf, Evidence, Kind, Look, Metric, Pulse, State
from huidu.promotion.plan import CompiledPlan, Guard

FRESH_MIN: Final = 60.0
"""Older evidence than this blocks a promotion, unless its metric says otherwise."""

BALANCE: Final = 0.005
"""Arms complete up to moments this close, as a share of the stage's age, count as complete alike:
they can differ by half a percent then, which no test here would call an effect."""

SMALL_FALL: Final = (2.0, 0.01)
"""Cumulative counts may fall by so many or by this share (duplicates removed, users erased)."""

UNKNOWN_AS_OF: Final = -1.0
"""`Evidence.as_of` of a source that does not say up to when it is complete."""

SILENT_AFTER: Final = 15.0
"""An arm is silent once this many movements of its total were due and none came (e^-15)."""

_MOST: Final = 2.0**53  # whole numbers beyond it are not told apart
_RATIO_KEYS: Final = ("bad", "num", "den", "num2", "den2", "numden")
_MEAN_KEYS: Final = ("n", "sum", "sumsq", "sum_cap", "sumsq_cap")

type_of_users = dict[str, tuple[float, float]]


def fresh_min(metric: Metric) -> float:
    """How many minutes old this metric's evidence may be."""
    return FRESH_MIN if metric.fresh_min is None else metric.fresh_min


def users_of(plan: CompiledPlan, look: Look, state: State) -> tuple[type_of_users, dict[str, int]]:
    """Enrolled users per cell id (treated, control), and where each cell stands in the look.

    A cell of the plan that is absent has nobody yet.

    Raises:
        EvidenceError: unknown or repeated cells, impossible or falling numbers of users.
    """
    places: dict[str, int] = {}
    for i, cell in enumerate(look.cells):
        if cell.id is None:
            if len(look.cells) != len(plan.given_ids):
                raise EvidenceError(
                    f"cells without id must be all {len(plan.given_ids)} of the plan, in its order,"
                    f" got {len(look.cells)}",
                    path="cells",
                )
            name = plan.given_ids[i]
        else:
            name = str(cell.id)
        if name not in plan.rho_of:
            raise EvidenceError(f"expected a cell of the plan, got {name!r}", path=f"cells[{i}].id")
        if name in places:
            raise EvidenceError(f"cell {name!r} appears twice", path=f"cells[{i}].id")
        places[name] = i
    users: type_of_users = {}
    for name in plan.ids:
        place = places.get(name)
        before = state.users.get(name, (0.0, 0.0))
        if place is None:
            now = (0.0, 0.0)
        else:
            cell = look.cells[place]
            path = f"cells[{place}]"
            now = (_count(cell.t.n, f"{path}.t.n"), _count(cell.c.n, f"{path}.c.n"))
        if _fell(before[0], now[0]) or _fell(before[1], now[1]):
            raise EvidenceError(
                f"enrolled users of cell {name!r} fell from {before} to {now};"
                " counts are cumulative",
                path="cells" if place is None else f"cells[{place}]",
                code="evidence.fell",
            )
        users[name] = now
    return users, places


def read_metric(
    plan: CompiledPlan, guard: Guard, look: Look, users: type_of_users, places: Mapping[str, int]
) -> Evidence | None:
    """What the look says about one metric, or None if a cell with users has no value.

    Raises:
        EvidenceError: a value of the wrong shape or one that cannot be true.
    """
    treated: dict[str, tuple[float, ...]] = {}
    control: dict[str, tuple[float, ...]] = {}
    for name, place in places.items():
        cell = look.cells[place]
        for label, arm, rows, n in (
            ("t", cell.t, treated, users[name][0]),
            ("c", cell.c, control, users[name][1]),
        ):
            if guard.absolute and label == "c":
                continue  # nobody is compared, so control need not be measured
            row = _read_arm(guard, arm, n, f"cells[{place}].{label}.m.{guard.name}")
            if row is None:
                return None
            rows[name] = row
    return Evidence(as_of=UNKNOWN_AS_OF, t=treated, c=control, users=users)


def complete_up_to(
    as_of: AsOf | None, t_min: float, *, has_control: bool, path: str
) -> float | None:
    """Minute up to which both arms are complete alike; None if they are not.

    Returns `UNKNOWN_AS_OF` if the source says nothing at all: such counts may raise an alarm but
    promote nobody.

    Raises:
        EvidenceError: complete up to a moment that has not come.
    """
    if as_of is None:
        return UNKNOWN_AS_OF
    arms = (as_of.t, as_of.c) if has_control else (as_of.t,)
    known = [moment for moment in arms if moment is not None]
    if len(known) < len(arms):
        return None
    for moment in known:
        if not math.isfinite(moment) or moment > t_min + FRESH_MIN:
            raise EvidenceError(
                f"expected minutes up to the look's t_min={t_min}, got {moment}", path=path
            )
    moments = [min(max(moment, 0.0), t_min) for moment in known]
    tolerance = t_min * BALANCE
    return min(moments) if max(moments) - min(moments) <= tolerance else None


def fell(before: Evidence, now: Evidence) -> str | None:
    """The first cell whose cumulative numbers fell, or None. Sums of amounts may fall (refunds)."""
    for old, new in ((before.t, now.t), (before.c, now.c)):
        for name, row in old.items():
            latest = new.get(name)
            if latest is None or _fell(row[0], latest[0]):
                return name
    return None


def _fell(before: float, now: float) -> bool:
    return before - now > max(SMALL_FALL[0], SMALL_FALL[1] * before)


def beat(pulse: Pulse, total: float, users: float, *, counts_events: bool) -> Pulse:
    """The pulse of one arm after a look with this total and this many users enrolled.

    Of a count every event is a movement; of a sum every look that changed it.
    """
    if total == pulse.total:
        return pulse
    return Pulse(total, int(total) if counts_events else pulse.changes + 1, users)


def is_silent(pulse: Pulse, users: float) -> bool:
    """Whether the arm kept enrolling while its total stood still for too long.

    Movements came once per so many users so far; by now `SILENT_AFTER` more were due. Works for
    counts and sums alike, in one arm or both, and whatever the rate.
    """
    if pulse.changes < 2 or pulse.users <= 0:
        return False
    return (users - pulse.users) * pulse.changes / pulse.users >= SILENT_AFTER


def _read_arm(guard: Guard, arm: Arm, n: float, path: str) -> tuple[float, ...] | None:
    kind = guard.metric.kind
    value = arm.m.get(guard.name)
    if value is None:
        return guard.nobody if n == 0 else None
    if kind is Kind.LATENCY:
        return _latency(value, n, len(guard.metric.edges_ms), path)
    if kind is Kind.USERS_RATIO:
        return _ratio(value, n, path)
    if kind is Kind.MEAN:
        return _mean(value, n, path)
    return (_at_most(_count(value, path), n, path),)


def _latency(value: Any, n: float, edges: int, path: str) -> tuple[float, ...] | None:
    if not isinstance(value, list | tuple) or len(value) != edges:
        raise EvidenceError(f"expected a list of {edges} counts, got {value!r}", path=path)
    if any(item is None for item in value):
        return None
    row = tuple(_count(item, f"{path}[{i}]") for i, item in enumerate(value))
    _at_most(row[0], n, path)
    if any(a < b for a, b in itertools.pairwise(row)):
        raise EvidenceError(f"fewer users lie above a higher edge, got {list(row)}", path=path)
    return row


def _ratio(value: Any, n: float, path: str) -> tuple[float, ...] | None:
    sums = _sums(value, _RATIO_KEYS, ("bad",), path)
    if sums is None:
        return None
    bad, num, den, num2, den2, numden = sums
    _at_most(_count(bad, f"{path}.bad"), n, path)
    _spread(num, num2, n, f"{path}.num2")
    _spread(den, den2, n, f"{path}.den2")
    return (bad, num, den, num2, den2, numden)


def _mean(value: Any, n: float, path: str) -> tuple[float, ...] | None:
    sums = _sums(value, _MEAN_KEYS, ("n", "sum", "sumsq"), path)
    if sums is None:
        return None
    users, total, squares, capped, capped_squares = sums
    _at_most(_count(users, f"{path}.n"), n, path)
    if value.get("sum_cap") is None or value.get("sumsq_cap") is None:
        capped, capped_squares = total, squares
    _spread(total, squares, users, f"{path}.sumsq")
    _spread(capped, capped_squares, users, f"{path}.sumsq_cap")
    return (users, total, squares, capped, capped_squares)


def _sums(
    value: Any, keys: tuple[str, ...], needed: tuple[str, ...], path: str
) -> list[float] | None:
    if not isinstance(value, Mapping):
        raise EvidenceError(f"expected an object with {', '.join(keys)}, got {value!r}", path=path)
    if any(value.get(key) is None for key in needed):
        missing = [key for key in needed if key not in value]
        if missing:
            raise EvidenceError(f"{missing[0]} is missing", path=path)
        return None
    return [_number(value.get(key) or 0.0, f"{path}.{key}") for key in keys]


def _number(value: Any, path: str) -> float:
    if type(value) is float and math.isfinite(value):  # by far the most frequent, and the fastest
        return value
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number):
                return number
    except OverflowError:
        value = "a number of more than 300 digits"
    raise EvidenceError(f"expected a finite number, got {value!r}", path=path)


def _count(value: Any, path: str) -> float:
    if type(value) is int and 0 <= value <= _MOST:  # the usual case, answered at once
        return float(value)
    number = _number(value, path)
    if not 0 <= number <= _MOST or number != math.floor(number):
        raise EvidenceError(f"expected a whole number of 0 or more, got {value!r}", path=path)
    return number


def _at_most(count: float, n: float, path: str) -> float:
    if count > n:
        raise EvidenceError(f"{count:g} users cannot come from {n:g} enrolled", path=path)
    return count


def _spread(total: float, squares: float, n: float, path: str) -> None:
    """Cauchy-Schwarz: n sum(x^2) >= (sum x)^2, with room for rounding."""
    if squares < 0 or squares * n < total * total * (1 - 1e-9) - 1e-9:
        raise EvidenceError(
            f"{n:g} values summing to {total:g} have squares summing to at least"
            f" {total * total / max(n, 1.0):g}, got {squares:g}",
            path=path,
        )
