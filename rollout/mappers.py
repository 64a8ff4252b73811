"""Rows to a snapshot's vocabulary. Reads, never writes; clock and sequence are given."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from django.db.models import Prefetch, QuerySet

from cohorts import mappers as who
from huidu import model, reasons
from huidu.errors import SnapshotError
from rollout.models import Flag, FundingPartner, Gate, RegionPolicy, Rollout, Stage, Tier

Part = TypeVar("Part")


def snapshot(environment: str, *, sequence: int, published_at: datetime) -> model.Snapshot:
    """Everything a check in `environment` needs, as the rows say now."""
    return model.Snapshot(
        environment=environment,
        sequence=sequence,
        published_at=iso(published_at),
        attributes=who.attributes(),
        cohorts=who.cohorts(),
        flags=[flag(row) for row in flags_with_parts(environment)],
    )


def iso(at: datetime) -> str:
    """A moment as snapshots write it: ISO 8601 in UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def flags_with_parts(environment: str) -> QuerySet[Flag]:
    """The flags of an environment with everything `flag` reads, in a fixed number of queries."""
    return (
        Flag.objects.filter(environment=environment, archived_at__isnull=True)
        .select_related("exclusion")
        .prefetch_related(
            "allow_lists",
            "block_lists",
            "tiers",
            Prefetch(
                "gates",
                Gate.objects.filter(enabled=True)
                .select_related("region_policy", "flag")
                .prefetch_related(
                    "region_policy__classes",
                    "region_policy__assignments__region_class",
                    "flag__partners",
                ),
            ),
            Prefetch(
                "rollouts",
                Rollout.objects.order_by("-slot")
                .select_related("current")
                .prefetch_related(Prefetch("stages", Stage.objects.select_related("audience"))),
            ),
        )
        .order_by("key")
    )


def flag(row: Flag) -> model.Flag:
    """One flag; `row` comes from `flags_with_parts`."""
    journey = rollout_to_tell(row.rollouts.all())
    return model.Flag(
        key=row.key,
        version=row.version,
        type=model.ValueType(row.type),
        variants=parts(row.variants, model.Variant, f"flag {row.key}, variants"),
        off_variant=row.off_variant,
        off_value=row.off_value,
        enabled=row.enabled,
        killed=row.killed,
        client_visible=row.client_visible,
        record_on_check=row.record_on_check,
        receipts_ppm=row.receipts_ppm,
        salt=row.salt,
        block_list=frozenset(row.block_users),
        allow_list=frozenset(row.allow_users),
        block_lists=sorted(each.pk for each in row.block_lists.all()),
        allow_lists=sorted(each.pk for each in row.allow_lists.all()),
        prerequisites=parts(
            row.prerequisites, model.Prerequisite, f"flag {row.key}, prerequisites"
        ),
        exclusion=exclusion(row),
        gates=[gate(each) for each in sorted(row.gates.all(), key=lambda each: each.order)],
        tiers=[tier(each) for each in sorted(row.tiers.all(), key=lambda each: each.order)],
        rollout=None if journey is None else rollout(journey),
        payload=row.payload,
    )


def rollout_to_tell(rollouts: Iterable[Rollout]) -> Rollout | None:
    """The rollout that decides: the one in effect, else the latest that ended, else a draft."""
    rows = sorted(rollouts, key=lambda each: -each.slot)
    for wanted in (
        Rollout.IN_EFFECT,
        (Rollout.Status.ROLLED_BACK,),
        (Rollout.Status.AWAITING_APPROVAL, Rollout.Status.DRAFT),
    ):
        for row in rows:
            if row.status in wanted:
                return row
    return None


def rollout(row: Rollout) -> model.Rollout:
    stages = sorted(row.stages.all(), key=lambda each: each.order)
    current = next((i for i, each in enumerate(stages) if each.pk == row.current_id), -1)
    return model.Rollout(
        slot=row.slot,
        salt=row.salt,
        status=model.RolloutStatus(row.status),
        stages=[stage(each) for each in stages],
        current=current,
        sticky=row.sticky,
    )


def stage(row: Stage) -> model.Stage:
    """A stage that was not drawn yet admits nobody: threshold 0 unless it addresses everybody."""
    full = row.share_ppm == model.PPM
    threshold = int(row.threshold) if row.threshold is not None else 0
    starts_at = row.entered_at or row.planned_at
    return model.Stage(
        key=row.key,
        audience={"cohort": row.audience.key} if row.audience is not None else {},
        audience_why=row.audience_why,
        share_ppm=row.share_ppm,
        threshold=model.FULL_THRESHOLD if full and row.threshold is None else threshold,
        weights=[model.Weight(rule=entry["rule"], weight=entry["weight"]) for entry in row.weights],
        payload=row.payload,
        starts_at=iso(starts_at) if starts_at else None,
        not_drawn_why=reasons.STAGE_HELD_BACK if row.holdback else reasons.STAGE_NOT_DRAWN,
    )


def gate(row: Gate) -> model.Gate:
    return model.Gate(
        key=row.key,
        dimension=row.dimension,
        why=row.why,
        rule=row.rule,
        region=None if row.region_policy is None else region_policy(row.region_policy),
        capacity=capacity(row.flag.partners.all()) if row.capacity else None,
        unknown_why=row.unknown_why,
        absolute=row.absolute,
        keeps_shown=row.keeps_shown,
        version=row.version,
    )


def capacity(partners: Iterable[FundingPartner]) -> model.Capacity:
    """Who gives places. Caps and counts are not told: they change with every user let in."""
    return model.Capacity(
        partners=[
            model.Partner(
                number=each.pk,
                key=each.key,
                everywhere=each.everywhere,
                regions=frozenset(each.regions),
                is_open=each.is_open,
            )
            for each in sorted(partners, key=lambda each: (each.order, each.pk))
        ]
    )


def region_policy(row: RegionPolicy) -> model.RegionPolicy:
    return model.RegionPolicy(
        classes=[
            model.RegionClass(key=each.key, ceiling_ppm=each.ceiling_ppm, payload=each.payload)
            for each in row.classes.all()
        ],
        regions={each.code: each.region_class.key for each in row.assignments.all()},
        default=row.default_class,
    )


def tier(row: Tier) -> model.Tier:
    return model.Tier(key=row.key, rule=row.rule, payload=row.payload)


def parts(value: Any, shape: type[Part], path: str) -> list[Part]:
    """A JSON column's list as structs.

    Raises:
        SnapshotError: it has another shape; says where.
    """
    try:
        return msgspec.convert(value, list[shape])  # type: ignore[valid-type]
    except msgspec.ValidationError as error:
        raise SnapshotError(str(error), path=path) from error


def exclusion(row: Flag) -> model.Exclusion | None:
    if row.exclusion is None:
        return None
    return model.Exclusion(
        group=row.exclusion.key,
        salt=row.exclusion.salt,
        from_ppm=row.exclusion_from_ppm,
        to_ppm=row.exclusion_to_ppm,
        why=row.exclusion.why,
    )
