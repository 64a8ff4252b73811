"""Named audiences, changed: checked against everything that uses them, in every environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction

from cohorts.models import Cohort
from huidu.errors import InputError
from rollout.models import Flag, Stage
from rollout.services import audit, everywhere
from rollout.services.audit import Actor
from rollout.services.changing import needs_second_person, only, require_second_person, save, users
from rollout.services.rules import validate_rule

EDITABLE: Final = frozenset(
    {"key", "label_zh", "label_en", "description", "rule", "include", "exclude"}
)


def save_cohort(
    values: Mapping[str, Any],
    *,
    by: Actor,
    cohort: Cohort | None = None,
    reason: str = "",
    approved_by: Actor | None = None,
) -> Cohort:
    """Add a cohort, or change one; every environment is checked and published anew.

    Raises:
        ApprovalNeededError: a live flag that asks for two people uses it.
        InputError, RuleError, SnapshotError: a value is wrong; `path` says which.
    """
    only(values, EDITABLE)
    for name in ("include", "exclude"):
        users(values.get(name, []), name)
    key = values.get("key", cohort.key if cohort else "")
    if cohort is not None and key != cohort.key:
        raise InputError(
            f"expected {cohort.key}: rules refer to a cohort by its key, so it never changes",
            path="key",
        )
    risky = {"rule", "include", "exclude"} & set(values)
    if cohort is not None and risky:
        for flag in flags_using(cohort):
            if needs_second_person(flag):
                require_second_person(flag, by, approved_by, f"changing cohort {key}")
    with transaction.atomic():
        if "rule" in values:
            validate_rule(values["rule"], path=f"cohort {key}, rule")
        row = Cohort.objects.select_for_update().get(pk=cohort.pk) if cohort else Cohort()
        before = audit.state_of(row) if cohort else {}
        for name, value in values.items():
            setattr(row, name, value)
        save(row)
        was, now = audit.difference(before, audit.state_of(row))
        everywhere.record_and_publish(
            by,
            "cohort.updated" if cohort else "cohort.created",
            f"cohort:{row.key}",
            was if cohort else None,
            now,
            reason,
        )
    return row


def flags_using(cohort: Cohort) -> list[Flag]:
    """Flags whose stages address the cohort or whose rules name it."""
    named = f'"cohort": "{cohort.key}"'
    flags = Flag.objects.filter(archived_at=None).prefetch_related("gates", "tiers", "rollouts")
    stages = Stage.objects.filter(audience=cohort).values_list("rollout__flag_id", flat=True)
    by_stage = set(stages)
    return [flag for flag in flags if flag.pk in by_stage or _names(flag, named)]


def _names(flag: Flag, text: str) -> bool:
    rules = [gate.rule for gate in flag.gates.all()] + [tier.rule for tier in flag.tiers.all()]
    for rollout in flag.rollouts.all():
        rules += [stage.weights for stage in rollout.stages.all()]
    return any(text in json.dumps(rule) for rule in rules)
