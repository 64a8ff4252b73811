"""What one user's events add up to, per kind of metric, and how a cell's numbers are laid out.

    kind                      `sums` of a cell                              per user
    binary, binary_delayed    users with the event                          any value above 0
    users_ratio               bad, num, den, num2, den2, numden             sums of both numbers
    latency                   users above each edge                         the slowest reading
    mean, count               sum, sumsq, sum_cap, sumsq_cap                the sum of the values

Sums run over users, not over events: a user with ten events is one user with a larger sum. Enrolled
users without an event count as 0 in a mean, so a change in who has events at all shows as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rollout.models import Metric

Kind = Metric.Kind

RATIO_KEYS: Final = ("bad", "num", "den", "num2", "den2", "numden")
MEAN_KEYS: Final = ("sum", "sumsq", "sum_cap", "sumsq_cap")


class UserSum:
    """One user's events of one metric, taken one by one. Their order changes no total."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.seen = False
        self.any = False
        self.value = 0.0
        self.of = 0.0
        self.most = float("-inf")

    def take(self, value: float, denominator: float | None) -> None:
        self.seen = True
        self.any = self.any or value > 0
        self.value += value
        # A bad request without a word on how many there were is one of at least as many.
        self.of += denominator if denominator is not None else max(value, 1.0)
        self.most = max(self.most, value)

    def sums(self) -> list[float]:
        """What this user adds to the cell's `sums`."""
        if not self.seen:
            return [0.0] * width(self.metric)
        kind = self.metric.kind
        if kind == Kind.USERS_RATIO:
            num, den = self.value, self.of
            return [float(num > 0), num, den, num * num, den * den, num * den]
        if kind == Kind.LATENCY:
            return [float(self.most > edge) for edge in self.metric.edges]
        if kind in (Kind.MEAN, Kind.COUNT):
            cap = self.metric.cap
            capped = self.value if cap is None else min(self.value, cap)
            return [self.value, self.value**2, capped, capped**2]
        return [float(self.any)]


def width(metric: Metric) -> int:
    """How many numbers a cell of this metric holds."""
    if metric.kind == Kind.LATENCY:
        return len(metric.edges)
    return {Kind.USERS_RATIO: len(RATIO_KEYS), Kind.MEAN: 4, Kind.COUNT: 4}.get(
        Kind(metric.kind), 1
    )


def reading(metric: Metric, sums: Iterable[float], enrolled: int) -> object:
    """A cell's numbers in the form `huidu.promotion` reads."""
    numbers = list(sums)
    if metric.kind == Kind.USERS_RATIO:
        return dict(zip(RATIO_KEYS, numbers, strict=True))
    if metric.kind == Kind.LATENCY:
        return [int(each) for each in numbers]
    if metric.kind in (Kind.MEAN, Kind.COUNT):
        return {"n": enrolled, **dict(zip(MEAN_KEYS, numbers, strict=True))}
    return int(numbers[0])
