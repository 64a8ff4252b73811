"""A journey to play: a fresh rollout of a flag with a compressed clock, and users with fates.

The rollout is made through the same services as any other; only its clock runs faster, which the
admin shows. What users do is made up, from seeded draws around plausible base rates.
"""

from __future__ import annotations

import math
import random
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction

from huidu.errors import InputError, StateError
from rollout.models import Flag, Metric, Rollout, Stage
from rollout.services import audit, payloads, rollouts, stages
from rollout.services.audit import Actor

OPERATOR: Final = Actor(name="simulation", person="simulation")
REVIEWER: Final = Actor(name="simulation reviewer", person="simulation reviewer")

SUCCESS, COMPLAINT, ERROR, LATENCY, AMOUNT = (
    "application_success",
    "complaint",
    "api_error",
    "page_latency",
    "drawn_amount",
)
NEEDED: Final = (SUCCESS, COMPLAINT, ERROR, LATENCY, AMOUNT)
HEAVY: Final = {"rule": {">": [{"var": "weekly_payments"}, 20]}, "weight": 3}

type_of_plan = list[tuple[dict[str, Any], dict[str, dict[str, Any]]]]


def plan(staff_cohort: str | None) -> type_of_plan:
    """The stages of the source's example, each with its guards by metric."""
    limits = {
        ERROR: {"role": "must_prove", "limit_abs": 0.10},
        COMPLAINT: {"role": "must_prove", "limit_abs": 0.06},
    }
    internal: dict[str, Any] = {
        "key": "internal",
        "label_zh": "内部员工",
        "label_en": "Staff",
        "audience_why": "stage.not_internal",
        "minimum_stay": timedelta(days=7),
        "maximum_stay": timedelta(days=14),
        "minimum_users": 50,
    }
    if staff_cohort is not None:
        internal["audience"] = staff_cohort
    five = {
        "key": "five-percent",
        "label_zh": "5% 符合条件的用户",
        "label_en": "5 % of eligible users",
        "share_ppm": 50_000,
        "weights": [HEAVY],
        "minimum_stay": timedelta(days=14),
        "maximum_stay": timedelta(days=28),
    }
    everybody = {
        "key": "full",
        "label_zh": "全量",
        "label_en": "Everybody eligible",
        "minimum_stay": timedelta(days=4),
        "maximum_stay": timedelta(days=28),
        "minimum_users": 500,
    }
    compared = {
        SUCCESS: {"role": "must_prove", "margin_rel": 0.30},
        ERROR: {"role": "must_prove", "margin_rel": 1.0},
        LATENCY: {"role": "must_prove", "margin_rel": 0.25},
        COMPLAINT: {"role": "stop", "margin_rel": 1.0},
        AMOUNT: {"role": "stop", "margin_rel": 0.3},
    }
    return [(internal, limits), (five, compared), (everybody, limits)]


def fresh_rollout(flag: Flag, *, time_scale: float, staff_cohort: str | None) -> Rollout:
    """End what is in effect, and start a new journey of the flag on a fast clock.

    Raises:
        StateError: the flag is killed or its compliance items are unsigned.
        InputError: a metric the simulation counts is missing.
    """
    missing = set(NEEDED) - set(
        Metric.objects.filter(environment=flag.environment, key__in=NEEDED).values_list(
            "key", flat=True
        )
    )
    if missing:
        raise InputError(f"expected metrics {', '.join(sorted(missing))}: load the demo first")
    if flag.killed:
        raise StateError(f"flag {flag.key} is killed: resume it first")
    why = "a simulated journey begins"
    for old in Rollout.objects.filter(flag=flag, status__in=Rollout.IN_EFFECT):
        rollouts.rollback(old, by=OPERATOR, reason=why)
    with transaction.atomic():
        rollout = rollouts.create(flag, by=OPERATOR, name="simulation", reason=why)
        set_clock(rollout, time_scale, by=OPERATOR, reason=why)
        for order, (values, guards) in enumerate(plan(staff_cohort)):
            stage = stages.save_stage(
                rollout,
                payloads.stage_values({"order": order, **values}),
                by=OPERATOR,
                reason=why,
            )
            for key, guard in guards.items():
                metric = payloads.metric(stage, key)
                stages.save_guard(stage, metric, guard, by=OPERATOR, reason=why)
    rollouts.submit(rollout, by=OPERATOR, reason=why)
    rollouts.approve(rollout, by=REVIEWER, reason=why)
    rollouts.start(rollout, by=OPERATOR, reason=why)
    return rollout


def set_clock(rollout: Rollout, time_scale: float, *, by: Actor, reason: str) -> None:
    """Let a draft's clock run faster than real time, for a demonstration.

    Raises:
        StateError: it has started; a clock that changes speed would move its looks.
        InputError: not between 1 and 1,000,000.
    """
    if not 1 <= time_scale <= 1_000_000:
        raise InputError(f"expected 1 to 1,000,000, got {time_scale:g}", path="time_scale")
    with transaction.atomic():
        before = rollout.time_scale
        drafts = Rollout.objects.filter(pk=rollout.pk, status=Rollout.Status.DRAFT)
        if not drafts.update(time_scale=time_scale):
            raise StateError(f"rollout {rollout} has left its draft: its clock stays as it is")
        rollout.time_scale = time_scale
        audit.record(
            by,
            "rollout.clock_set",
            f"rollout:{rollout.flag.key}#{rollout.slot}",
            environment=rollout.flag.environment,
            before={"time_scale": before},
            after={"time_scale": time_scale},
            reason=reason,
        )


class Fates:
    """What happens to users after they met the flag. Seeded by user, so a repeat is the same.

    Args:
        harmful: treated users outside the company fail more: 5 times as many failed requests,
            a third fewer successful applications, pages half as slow again.
    """

    def __init__(self, seed: int, *, harmful: bool) -> None:
        self.seed = seed
        self.harmful = harmful

    def of(self, user: str, stage: Stage, treated: bool, weight: int, at: datetime) -> list[Any]:
        """The user's outcomes as events of the ingest API."""
        draw = random.Random(f"{self.seed}/{stage.pk}/{user}")  # noqa: S311 - a simulation
        hit = self.harmful and treated and stage.key != "internal"
        heavy = 1.4 if weight > 1 else 1.0
        moment = at.isoformat()
        found = []

        def happen(metric: str, value: float, denominator: float | None = None) -> None:
            event = {
                "event_id": f"sim-{stage.pk}-{metric}-{user}",
                "type": "outcome",
                "user_id": user,
                "metric": metric,
                "value": value,
                "at": moment,
            }
            found.append(event if denominator is None else event | {"denominator": denominator})

        requests = 1 + min(int(draw.expovariate(0.25)), 40)
        if draw.random() < 0.02 * (5.0 if hit else 1.0):
            happen(ERROR, min(1 + int(draw.expovariate(1.0)), requests), requests)
        if draw.random() < 0.05 * heavy * (0.65 if hit else 1.0):
            happen(SUCCESS, 1)
            happen(AMOUNT, round(min(math.exp(draw.gauss(8.3, 0.9)), 200_000), 2))
        if draw.random() < 0.005 * (2.0 if hit else 1.0):
            happen(COMPLAINT, 1)
        slowest = 120.0 * math.exp(abs(draw.gauss(0.0, 0.9)) + 0.2) * (1.5 if hit else 1.0)
        if slowest > 120.0:
            happen(LATENCY, round(slowest, 1))
        return found
