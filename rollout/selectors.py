"""What other modules ask about releases. Reads, never writes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from django.db.models import Q, QuerySet

from rollout.models import ComplianceItem, Flag, Rollout, Stage


def unsigned_items(flag: Flag, today: date) -> list[str]:
    """Keys of compliance items that block a start today: unsigned, expired, or not yet valid."""
    items = ComplianceItem.objects.filter(flag=flag).exclude(_is_fine(today))
    return list(items.order_by("key").values_list("key", flat=True))


def flags_with_unsigned_items(flag_ids: Collection[int], today: date) -> set[int]:
    """Those of the flags of which `unsigned_items` names any."""
    items = ComplianceItem.objects.filter(flag__in=flag_ids).exclude(_is_fine(today))
    return set(items.order_by().values_list("flag", flat=True))


def _is_fine(today: date) -> Q:
    return (
        ~Q(signed_by="")
        & (Q(valid_from__isnull=True) | Q(valid_from__lte=today))
        & (Q(valid_to__isnull=True) | Q(valid_to__gte=today))
    )


def flag_of(environment: str, key: str) -> Flag | None:
    """A flag that is not archived."""
    return Flag.objects.filter(environment=environment, key=key, archived_at=None).first()


def running_stages() -> QuerySet[Stage]:
    """Stages to review: running, in a rollout that is running."""
    return Stage.objects.filter(
        status=Stage.Status.RUNNING,
        rollout__status=Rollout.Status.RUNNING,
        rollout__flag__killed=False,
    ).select_related("rollout__flag")


def environments() -> list[str]:
    """Every environment that has flags."""
    return sorted(set(Flag.objects.values_list("environment", flat=True)))
