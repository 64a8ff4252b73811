"""What previews of flags ask a population file for, and the tick that keeps one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.utils import timezone

from cohorts import mappers as who
from cohorts.population.columns import Kept
from cohorts.population.flags import lines_of
from cohorts.population.people import People, ask
from cohorts.services import population
from huidu.engine.bucketing import seed_of
from rollout import selectors
from rollout.models import Rollout
from rollout.services.answering import compiled_snapshot, snapshot_in_force

_T = TypeVar("_T")


def asked(question: Callable[[People], _T]) -> _T:
    """Put a question about flags to everybody; see `cohorts.population.people.ask`.

    Raises:
        NotHeld, StateError: as that does.
    """
    seeds, slots = lines()
    return ask(question, seeds=seeds, slots=slots)


def lines() -> tuple[list[int], list[int]]:
    """Seeds of the lines, and slots, of all flags that are published or planned."""
    seeds: set[int] = set()
    slots: set[int] = set()
    for environment in selectors.environments():
        row = snapshot_in_force(environment)
        if row is not None:
            some, more = lines_of(compiled_snapshot(environment, row)[0])
            seeds |= some
            slots |= more
    planned = Rollout.objects.filter(
        flag__archived_at=None,
        status__in=[*Rollout.IN_EFFECT, Rollout.Status.DRAFT, Rollout.Status.AWAITING_APPROVAL],
    )
    for slot, salt in planned.values_list("slot", "salt"):
        seeds.add(seed_of(salt))
        slots.add(slot)
    return sorted(seeds), sorted(slots)


def carry_on(seconds: float) -> bool:
    """Make a new population file if one is due, for so long; whether one was finished."""
    seeds, slots = lines()
    kept = Kept(list(who.registry().values()), seeds, slots)
    if not population.is_due(kept, timezone.now()):
        return False
    return population.build(seeds, slots, seconds=seconds) is not None


def build(*, anew: bool = False, told: Callable[[int], object] | None = None) -> People | None:
    """Make a new population file now; None where another process is at it."""
    seeds, slots = lines()
    return population.build(seeds, slots, told=told, anew=anew)
