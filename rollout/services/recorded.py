"""What a decision was made from, gathered from its row and those before it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from django.db.models import QuerySet

from huidu.errors import EvidenceError
from huidu.promotion import contract
from rollout.models import Decision


class Material(NamedTuple):
    """Everything a decision was made from."""

    plan: contract.Plan
    state: contract.State
    look: contract.Look
    conditions: contract.Conditions


def plan_before(stage_id: int, look: int) -> contract.Plan | None:
    """The plan a look was made by: its own, or the last one written before it."""
    return _newest(Decision.objects.filter(stage=stage_id, look__lte=look))


def newest_plan(stage_id: int) -> contract.Plan | None:
    """The plan of a stage's last look; None before its first."""
    return _newest(Decision.objects.filter(stage=stage_id))


def _newest(rows: QuerySet[Decision]) -> contract.Plan | None:
    row = rows.exclude(plan={}).order_by("-look").values_list("plan", flat=True).first()
    return None if row is None else msgspec.convert(row, contract.Plan)


def material_of(decision: Decision) -> Material:
    """What a decision was made from.

    Raises:
        EvidenceError: a row before it is missing.
    """
    plan = plan_before(decision.stage_id, decision.look)
    if plan is None:
        raise EvidenceError(f"decision {decision.pk}: no plan was written at or before it")
    before = decision.state
    if not before:
        rows = Decision.objects.filter(stage=decision.stage_id, look__lt=decision.look)
        previous = rows.order_by("-look").first()
        if previous is None:
            raise EvidenceError(f"decision {decision.pk}: the look before it is missing")
        before = previous.state_after
    return Material(
        plan,
        msgspec.convert(before, contract.State),
        msgspec.convert(decision.evidence["look"], contract.Look),
        msgspec.convert(decision.evidence["conditions"], contract.Conditions),
    )
