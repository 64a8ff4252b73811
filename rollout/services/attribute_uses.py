"""Where an attribute is used: every rule that names it, drafts and requests included, and for the
region the gates that look at it by a region policy or by what funding partners serve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import F, Model, Q, QuerySet, TextField
from django.db.models.functions import Cast

from cohorts.models import Cohort
from huidu.engine.plan import REGION_ATTRIBUTE
from rollout.models import ChangeRequest, Flag, Gate, Stage, Tier


@dataclass(frozen=True)
class Use:
    """One row whose rule names the attribute.

    Args:
        kind: cohort, gate, tier, stage or change (a request that waits).
        name: how people find it, such as ``weilidai/adult``.
        flag: the flag it belongs to, if it belongs to one.
        live: whether it may still answer somebody: not of an archived flag.
    """

    kind: str
    name: str
    row: Model
    flag: Flag | None = None
    live: bool = True

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def uses_of(name: str) -> list[Use]:
    """Every use of the attribute, cohorts first. A query a kind, whatever the number of rules."""
    return list(_uses(name))


def flags_using(name: str) -> list[Flag]:
    """Flags that are not archived and whose answers may rest on the attribute, also by cohorts."""
    from rollout.services.cohort_edits import flags_using as by_cohort

    found: dict[int, Flag] = {}
    for use in uses_of(name):
        if isinstance(use.row, Cohort):
            found |= {flag.pk: flag for flag in by_cohort(use.row)}
        elif use.flag is not None and use.live:
            found[use.flag.pk] = use.flag
    return sorted(found.values(), key=lambda flag: flag.key)


def names(rule: Any, attribute: str) -> bool:
    """Whether ``{"var": attribute}`` stands anywhere in a piece of JSON."""
    if isinstance(rule, dict):
        var = rule.get("var")
        if var == attribute or (isinstance(var, list) and attribute in var[:1]):
            return True
        return any(names(inner, attribute) for inner in rule.values())
    return isinstance(rule, list) and any(names(inner, attribute) for inner in rule)


def _uses(name: str) -> Iterator[Use]:
    for cohort in _naming(Cohort.objects.order_by("key"), "rule", name):
        yield Use("cohort", cohort.key, cohort)
    for kind, rows in (("gate", Gate.objects), ("tier", Tier.objects)):
        for row in _naming(
            rows.select_related("flag").order_by("flag__key", "order"), "rule", name
        ):
            yield _of_flag(kind, row.key, row, row.flag)
    if name == REGION_ATTRIBUTE:  # these look at it without a rule that names it
        by_region = Gate.objects.filter(Q(region_policy__isnull=False) | Q(capacity=True))
        for row in by_region.select_related("flag").order_by("flag__key", "order"):
            yield _of_flag("gate", row.key, row, row.flag)
    stages = Stage.objects.select_related("rollout__flag").order_by("rollout_id", "order")
    for stage in _naming(stages, "weights", name):
        rollout = stage.rollout
        yield _of_flag("stage", f"#{rollout.slot}/{stage.key}", stage, rollout.flag)
    waiting = ChangeRequest.objects.filter(status=ChangeRequest.Status.PENDING).order_by("pk")
    for change in _naming(waiting, "payload", name):
        yield Use("change", f"#{change.pk}", change)


def _naming(rows: QuerySet[Any], column: str, name: str) -> Iterator[Any]:
    """Rows whose JSON holds the attribute; the text is asked first, so few are read."""
    told = rows.annotate(told=Cast(F(column), TextField())).filter(told__contains=f'"{name}"')
    return (row for row in told if names(getattr(row, column), name))


def _of_flag(kind: str, key: str, row: Model, flag: Flag) -> Use:
    return Use(
        kind, f"{flag.key}{'' if key[0] == '#' else '/'}{key}", row, flag, not flag.archived_at
    )
