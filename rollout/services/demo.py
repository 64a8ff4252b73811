"""The sample deployment, made through the same services as any other change.

Idempotent: what is there already is left as people have changed it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from threading import Thread
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from cohorts.models import Admission, Cohort, DrawJob, Profile
from cohorts.services import draw_jobs, packing, rebuild
from rollout import demo_packer
from rollout.models import Flag, Metric, Rollout, Stage
from rollout.services import (
    cohort_edits,
    compliance,
    demo_gates,
    demo_stages,
    demo_users,
    drawn_steps,
    flags,
    funding,
    gates,
    metrics,
    payloads,
    region_policies,
    rollouts,
    stages,
    visits,
)
from rollout.services import demo_catalog as catalog
from rollout.services.audit import Actor

OPERATOR: Final = Actor(name="sample operator", person="sample operator")
REVIEWER: Final = Actor(name="sample reviewer", person="sample reviewer")
CAME_OF_TEN: Final = 8
MANY: Final = 20_000
"""Sample users from which on a second process is worth its start."""

WHY: Final = f"sample deployment ({catalog.SAMPLE})"


def load(*, users: int = demo_users.USERS) -> Iterator[str]:
    """Make what is missing; yields a line for each step as it is done.

    1. Users and payments, so that the draw has a population.
    2. Cohorts, metrics, the region policy, the two flags with their gates and tiers.
    3. The rollout of 微粒贷, started for staff, then drawn for 5 % of the eligible users.
    4. Meanwhile a second process packs the profiles; what the draw changed is packed at last.
    """
    environment = settings.HUIDU_ENVIRONMENT
    now = timezone.now()
    # Whole days only: the ledger has no single payments of today to explain a count by.
    yesterday = now.astimezone(ZoneInfo(settings.HUIDU_DAY_ZONE)).date() - timedelta(days=1)
    packer = demo_packer.begin() if users >= MANY and not Profile.objects.exists() else None
    made = demo_users.load(now, yesterday, users)
    yield f"{made:,} sample users with {demo_users.DAYS} days of payments"
    history = Thread(target=_remember, args=(now,))
    history.start()
    if packer:
        packer[1].set()
    with transaction.atomic():  # one snapshot, not fifty
        flag = _weilidai(environment)
    yield "flag weilidai"
    if rollout := _rollout(flag):
        _advance(rollout)
        stage = rollout.current
        assert stage is not None
        yield f"rollout {rollout} in stage {stage.key}: {stage.drawn:,} users drawn"
        yield f"places for the {_visit(flag, rollout, now):,} who came already"
    with transaction.atomic():
        _fenfu(environment)
    yield "flag fenfu"
    if packer:
        packer[0].join()
    if made:
        rebuild.heal_profiles(now)  # all of it, if there was no second process or it failed
        packing.drain_dirty()
        yield "profiles packed"
    history.join()


def _remember(now: datetime) -> None:
    """On a thread of its own: the database works on another core meanwhile."""
    try:
        demo_users.remember(now)
    finally:
        connection.close()


def _weilidai(environment: str) -> Flag:
    for cohort in catalog.COHORTS:
        if not Cohort.objects.filter(key=cohort["key"]).exists():
            cohort_edits.save_cohort(cohort, by=OPERATOR, reason=WHY)
    for metric in demo_stages.METRICS:
        if not Metric.objects.filter(environment=environment, key=metric["key"]).exists():
            metrics.save_metric(environment, metric, by=OPERATOR, reason=WHY)
    found = Flag.objects.filter(environment=environment, key="weilidai").first()
    if found is not None:
        return found
    region_policies.save_region_policy(
        environment, by=OPERATOR, reason=WHY, **demo_gates.REGION_POLICY
    )
    flag = flags.create(
        environment,
        "weilidai",
        by=OPERATOR,
        reason=WHY,
        label_zh="微粒贷",
        label_en="Weilidai consumer loan",
        description=f"支付应用内的消费贷入口，按邀请与抽样逐步开放。{catalog.SAMPLE}",
        owner="lending",
        entry_mode=Flag.EntryMode.INVITE,
        lender="微众银行",
    )
    _gates(flag, [*demo_gates.GATES, demo_gates.PLACES])
    for order, partner in enumerate(demo_gates.PARTNERS, start=1):
        funding.save_partner(flag, {"order": order, **partner}, by=OPERATOR, reason=WHY)
    for order, tier in enumerate(catalog.TIERS):
        gates.save_tier(flag, {"order": order, **tier}, by=OPERATOR, reason=WHY)
    for entry in catalog.COMPLIANCE:
        item = compliance.save_item(flag, entry, by=OPERATOR, reason=WHY)
        compliance.sign(item, by=REVIEWER, reason=WHY)
    return flag


def _fenfu(environment: str) -> None:
    if Flag.objects.filter(environment=environment, key="fenfu").exists():
        return
    flag = flags.create(
        environment,
        "fenfu",
        by=OPERATOR,
        reason=WHY,
        label_zh="分付",
        label_en="Fenfu instalments",
        description=f"分期消费产品，由用户申请。{catalog.SAMPLE}",
        owner="lending",
        entry_mode=Flag.EntryMode.APPLY,
        lender="财付通小贷",
    )
    _gates(flag, demo_gates.FENFU_GATES)
    rollout = rollouts.create(flag, by=OPERATOR, name=catalog.SAMPLE, reason=WHY)
    for order, stage in enumerate(demo_stages.STAGES):
        ramp = demo_stages.RAMP if stage["key"] == demo_stages.RAMPED else {}
        _stage(rollout, order, {**stage, **ramp})


def _gates(flag: Flag, entries: list[dict[str, Any]]) -> None:
    for order, entry in enumerate(entries):
        values = payloads.gate_values(flag.environment, {"order": order, **entry})
        gates.save_gate(flag, values, by=OPERATOR, reason=WHY)


def _stage(rollout: Rollout, order: int, values: dict[str, Any]) -> Stage:
    plan = payloads.stage_values({"order": order, **values})
    return stages.save_stage(rollout, plan, by=OPERATOR, reason=WHY)


def _rollout(flag: Flag) -> Rollout | None:
    """The sample rollout, if this flag has none yet."""
    if flag.rollouts.exists():
        return None
    with transaction.atomic():
        rollout = rollouts.create(flag, by=OPERATOR, name=catalog.SAMPLE, reason=WHY)
        for order, values in enumerate(demo_stages.STAGES):
            stage = _stage(rollout, order, values)
            if values["key"] in ("five-percent", "full"):
                for key, guard in demo_stages.GUARDS:
                    metric = payloads.metric(stage, key)
                    stages.save_guard(stage, metric, guard, by=OPERATOR, reason=WHY)
    return rollout


def _visit(flag: Flag, rollout: Rollout, now: datetime) -> int:
    """Most of the staff and of those drawn have met the product by now, and have a place."""
    staff = Profile.objects.filter(staff=True).values_list("user_id", flat=True)
    drawn = Admission.objects.filter(slot=rollout.slot, admitted=True)
    users = sorted({*staff, *drawn.values_list("user_id", flat=True)})
    return visits.visit(flag, [user for user in users if int(user[-1]) < CAME_OF_TEN], now=now)


def _advance(rollout: Rollout) -> None:
    """Through the same two people as any release: submit, approve, start, promote."""
    with transaction.atomic():
        rollouts.submit(rollout, by=OPERATOR, reason=WHY)
        rollouts.approve(rollout, by=REVIEWER, reason=WHY)
        rollouts.start(rollout, by=OPERATOR, reason=WHY)
        rollouts.promote(rollout, by=OPERATOR, reason=WHY, approved_by=REVIEWER)
    # From many users a worker draws, and none runs yet.
    while (job := draw_jobs.active(rollout.slot)) is not None:
        if job.state == DrawJob.State.READY:
            drawn_steps.take_ready()
        else:
            draw_jobs.carry_on()
    rollout.refresh_from_db()
