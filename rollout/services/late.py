"""Late outcomes of a stage that was left: its users go on being compared.

When the next stage shows the product to more users, some controls of the stage before it become
treated. They leave the comparison at that moment, all whose bucket the new threshold reaches,
whether they came or not: who comes is no coin's doing. What is left of the stage's last epoch is
one *part* per later widening, with cells of its own:

    treated     everybody whom the stage showed the product
    control     those of its controls whom no later threshold reaches
    chance      treated / (treated + control), known when the part begins

Only first events of users are counted, of guards that count users with an event: each is, without
harm, a treated user's with that chance. Users without any event so far carry on from the stage's
own cells, so nobody is counted twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from django.db.models import Q, QuerySet

from huidu.engine import bucketing
from huidu.model import FULL_THRESHOLD
from rollout.models import Arm, Exposure, Metric, MetricCell, Rollout, Stage
from rollout.services.exposures import shares_of
from rollout.services.look_rows import CellRow

LATE: Final = 1_000
"""Epoch e of a stage is told as e + 1,000 in the first part after it was left, and so on."""

WATCHED_FOR: Final = timedelta(days=60)
"""How long after a stage was left its late outcomes are still judged."""

_KINDS: Final = {Metric.Kind.BINARY, Metric.Kind.BINARY_DELAYED}


class Part(NamedTuple):
    """From `starts` on, later stages treat controls with a bucket below `cut` x weight."""

    starts: datetime
    cut: int


def watched(now: datetime) -> Q:
    """Stages that were left and whose users are still watched; a holdback as long as it lasts."""
    held_back = Q(holdback=True, rollout__status=Rollout.Status.COMPLETED)
    return Q(status=Stage.Status.DONE, rollout__status__in=Rollout.IN_EFFECT) & (
        Q(left_at__gt=now - WATCHED_FOR) | held_back
    )


class Parts:
    """How the time after a stage falls into parts; empty while nothing was widened after it."""

    def __init__(self, stage: Stage) -> None:
        self.epoch = stage.epoch
        self._seed = bucketing.seed_of(stage.rollout.salt)
        self.parts = _parts(stage)
        self._starts = [part.starts for part in self.parts]

    def epoch_of(self, metric: Metric, exposure: tuple[str, int, int, str], at: datetime) -> int:
        """The epoch in which an event counts, -1 if in none.

        Args:
            exposure: the user's arm, weight, epoch and id.
        """
        arm, weight, epoch, user = exposure
        place = bisect_right(self._starts, at)
        if place == 0 or epoch != self.epoch:
            return epoch
        if metric.kind not in _KINDS or not self._is_kept(self.parts[place - 1], arm, weight, user):
            return -1
        return epoch + LATE * place

    def enrol(self, stage: Stage) -> None:
        """Count the users of every part that has no cells yet. Reads every exposure once."""
        if not self.parts:
            return
        known = MetricCell.objects.filter(stage=stage, metric=None, epoch__gte=LATE)
        have = set(known.values_list("epoch", flat=True))
        wanted = {
            self.epoch + LATE * (i + 1): part
            for i, part in enumerate(self.parts)
            if self.epoch + LATE * (i + 1) not in have
        }
        if not wanted:
            return
        users: Counter[tuple[int, str, int, int]] = Counter()
        for user, arm, weight, chance, recorded in self._exposures(stage):
            for epoch, part in wanted.items():
                if recorded < part.starts and self._is_kept(part, arm, weight, user):
                    users[epoch, arm, weight, chance] += 1
        MetricCell.objects.bulk_create(
            MetricCell(
                stage=stage,
                metric=None,
                arm=arm,
                stratum=weight,
                epoch=epoch,
                chance_ppb=chance,
                hour=wanted[epoch].starts.replace(minute=0, second=0, microsecond=0),
                users=n,
            )
            for (epoch, arm, weight, chance), n in sorted(users.items())
        )

    def _exposures(self, stage: Stage) -> Iterable[tuple[str, str, int, int, datetime]]:
        rows: QuerySet[Exposure] = Exposure.objects.filter(stage=stage, epoch=self.epoch)
        columns = ("user_id", "arm", "stratum", "chance_ppb", "recorded_at")
        return rows.order_by().values_list(*columns).iterator(chunk_size=20_000)

    def _is_kept(self, part: Part, arm: str, weight: int, user: str) -> bool:
        if arm == Arm.TREATED:
            return True
        reached = min(part.cut * weight, FULL_THRESHOLD)
        return bucketing.seeded_bucket(self._seed, user) >= reached


def _parts(stage: Stage) -> list[Part]:
    if stage.status != Stage.Status.DONE:
        return []
    later = stage.rollout.stages.filter(order__gt=stage.order, entered_at__isnull=False)
    widened = [
        (at, threshold)
        for each in later
        for threshold, at in shares_of(stage.rollout.slot, each.key)
    ]
    found: list[Part] = []
    reached = int(stage.threshold or 0)
    for at, threshold in sorted(widened):
        if threshold > reached:
            reached = threshold
            found.append(Part(at, reached))
    return found


def chances(cells: Sequence[CellRow]) -> dict[tuple[int, int, int], float]:
    """Chance to be treated in the cells of late parts, by stratum, epoch and original chance."""
    users: dict[tuple[int, int, int], Counter[str]] = defaultdict(Counter)
    for row in cells:
        if row.metric_id is None and row.epoch >= LATE:
            users[row.stratum, row.epoch, row.chance_ppb][row.arm] += row.users
    return {key: arms[Arm.TREATED] / max(arms.total(), 1) for key, arms in users.items()}
