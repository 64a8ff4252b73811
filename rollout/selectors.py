"""What other modules ask about releases. Reads, never writes."""

from __future__ import annotations

from datetime import date

from django.db.models import Q, QuerySet

from rollout.models import ComplianceItem, Flag, Rollout, Stage


def unsigned_items(flag: Flag, today: date) -> list[str]:
    """Keys of compliance items that block a start today: unsigned, expired, or not yet valid."""
    items = ComplianceItem.objects.filter(flag=flag)
    fine = (
        ~Q(signed_by="")
        & (Q(valid_from__isnull=True) | Q(valid_from__lte=today))
        & (Q(valid_to__isnull=True) | Q(valid_to__gte=today))
    )
    return list(items.exclude(fine).order_by("key").values_list("key", flat=True))


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
