"""Region policies: which class of regions a city or province belongs to, and what it allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F

from huidu.errors import InputError
from huidu.model import PPM
from rollout.models import Flag, Gate, RegionAssignment, RegionClass, RegionPolicy
from rollout.services import audit, outbox, publishing
from rollout.services.audit import Actor
from rollout.services.changing import (
    grow_version,
    input_error,
    needs_second_person,
    require_second_person,
    save,
)


def save_region_policy(
    environment: str,
    key: str,
    *,
    classes: Mapping[str, Mapping[str, Any]],
    regions: Mapping[str, str],
    default: str,
    by: Actor,
    labels: Mapping[str, str] | None = None,
    source: str = "",
    reason: str = "",
    approved_by: Actor | None = None,
) -> RegionPolicy:
    """Make a region policy or replace its classes and regions, as one step.

    Args:
        classes: by key: ``{"ceiling_ppm", "payload", "label_zh", "label_en"}``, all optional.
        regions: GB/T 2260 code to the key of a class.
        default: key of the class of all other regions.
    Raises:
        ApprovalNeededError: a live flag that asks for two people uses it.
        InputError, SnapshotError: a value is wrong; `path` says which.
    """
    for code, name in regions.items():
        if name not in classes:
            raise InputError(
                f"expected one of {', '.join(sorted(classes))}, got {name!r}",
                path=f"regions.{code}",
            )
    if default not in classes:
        raise InputError(
            f"expected one of {', '.join(sorted(classes))}, got {default!r}", path="default"
        )
    with transaction.atomic():
        row = (
            RegionPolicy.objects.select_for_update()
            .filter(environment=environment, key=key)
            .first()
        )
        before = None if row is None else told(row)
        flags = list(Flag.objects.filter(gates__region_policy=row).distinct()) if row else []
        for flag in flags:
            if needs_second_person(flag):
                require_second_person(flag, by, approved_by, f"changing region policy {key}")
        row = row or RegionPolicy(environment=environment, key=key)
        row.default_class, row.source = default, source
        for name, label in (labels or {}).items():
            setattr(row, name, label)
        row.version += 1 if before is not None else 0
        save(row)
        row.assignments.all().delete()
        row.classes.exclude(key__in=classes).delete()
        made = {name: _save_class(row, name, values) for name, values in classes.items()}
        assignments = [
            RegionAssignment(policy=row, code=code, region_class=made[name])
            for code, name in regions.items()
        ]
        for assignment in assignments:
            try:
                assignment.clean_fields(exclude=["policy", "region_class"])
            except ValidationError as error:
                raise input_error(error) from error
        RegionAssignment.objects.bulk_create(assignments)
        Gate.objects.filter(region_policy=row).update(version=F("version") + 1)
        for flag in flags:
            grow_version(flag)
        publishing.check(environment)
        action = "region_policy.updated" if before else "region_policy.created"
        target = f"region_policy:{key}"
        audit.record(
            by,
            action,
            target,
            environment=environment,
            before=before,
            after=told(row),
            reason=reason,
        )
        outbox.publish_after_commit(environment, cause=f"{action} {target}", by=by)
    return row


def told(policy: RegionPolicy) -> dict[str, Any]:
    """A region policy as the log tells it."""
    return {
        "default": policy.default_class,
        "classes": {
            each.key: {"ceiling_ppm": each.ceiling_ppm, "payload": each.payload}
            for each in policy.classes.all()
        },
        "regions": {
            each.code: each.region_class.key
            for each in policy.assignments.select_related("region_class")
        },
    }


def _save_class(policy: RegionPolicy, key: str, values: Mapping[str, Any]) -> RegionClass:
    row = RegionClass.objects.filter(policy=policy, key=key).first()
    row = row or RegionClass(policy=policy, key=key)
    row.ceiling_ppm = values.get("ceiling_ppm", PPM)
    row.payload = dict(values.get("payload", {}))
    row.label_zh, row.label_en = values.get("label_zh", ""), values.get("label_en", "")
    save(row)
    return row
