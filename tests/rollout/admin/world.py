"""A small bank for tests of pages: two flags, six gates, users, a rollout that has begun."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
from django.contrib.auth.models import User
from django.utils import timezone

from cohorts.models import Cohort, ImportJob, UserList
from cohorts.services import ingest, profiles
from huidu import promotion
from rollout.models import (
    ComplianceItem,
    Decision,
    Flag,
    Gate,
    Guard,
    Metric,
    RegionPolicy,
    Rollout,
    Stage,
    Tier,
)
from rollout.services import (
    cohort_edits,
    compliance,
    flags,
    gates,
    keys,
    metrics,
    region_policies,
    rollouts,
    stages,
)
from rollout.services.audit import Actor

PASSWORD = "a-long-test-password"
WANG = Actor("wang", "wang")
LI = Actor("li", "li")
CITIES = ("440300", "310000", "410100", "540100")


@dataclass
class World:
    """Rows that tests open pages of."""

    flag: Flag
    second: Flag
    cohort: Cohort
    staff: Cohort
    rollout: Rollout
    stage: Stage
    planned: Stage
    gate: Gate
    metric: Metric
    policy: RegionPolicy
    item: ComplianceItem


def people() -> tuple[User, User]:
    """Two operators who may do everything, so that one can approve the other."""
    made = []
    for name in ("wang", "li"):
        user = User.objects.filter(username=name).first()
        made.append(user or User.objects.create_superuser(name, f"{name}@example.com", PASSWORD))
    return made[0], made[1]


def users(count: int = 200) -> None:
    """Users over four cities; every fifth pays 25 times a week, every tenth is staff."""
    now = timezone.now()
    profiles.ingest_profiles(
        [
            {
                "user_id": f"u{number:04}",
                "region": CITIES[number % 4],
                "staff": number % 10 == 0,
                "age": 20 + number % 40,
                "consent": True,
                "student": False,
                "invited": True,
                "risk_score": 10,
            }
            for number in range(count)
        ],
        now=now,
    )
    payments = [
        {"event_id": f"p{number}-{nth}", "user_id": f"u{number:04}", "paid_at": now.isoformat()}
        for number in range(count)
        for nth in range(25 if number % 5 == 0 else 4)
    ]
    for begin in range(0, len(payments), 5_000):
        ingest.ingest_payments(payments[begin : begin + 5_000], now=now)


def build(users_count: int = 200) -> World:
    """Everything through services, as people would."""
    people()
    users(users_count)
    flag = flags.create(
        "production",
        "weilidai",
        by=WANG,
        label_zh="微粒贷",
        label_en="Weilidai",
        owner="消费信贷部",
        lender="微众银行",
    )
    second = flags.create("production", "fenfu", by=WANG, label_zh="分付", label_en="Fenfu")
    staff = cohort("staff", "内部员工", "Internal staff", {"==": [{"var": "staff"}, True]})
    active = cohort(
        "active",
        "活跃用户",
        "Active users",
        {
            "and": [
                {">": [{"var": "weekly_payments"}, 3]},
                {"within": [{"var": "region"}, ["440000", "310000", "410100"]]},
            ]
        },
    )
    policy = region_policies.save_region_policy(
        "production",
        "regions",
        classes={
            "open": {"ceiling_ppm": 820_000, "label_zh": "开放", "label_en": "Open"},
            "restricted": {
                "ceiling_ppm": 430_000,
                "label_zh": "受限",
                "label_en": "Restricted",
                "payload": {"single_loan_cap_cny": 5000},
            },
            "closed": {"ceiling_ppm": 0, "label_zh": "关闭", "label_en": "Closed"},
        },
        regions={"440300": "open", "310000": "open", "410100": "restricted", "540100": "closed"},
        default="open",
        by=WANG,
        labels={"label_zh": "地区政策", "label_en": "Region policy"},
    )
    gate = make_gates(flag, policy)
    item = compliance.save_item(
        flag,
        {"key": "filing", "text_zh": "已完成地方备案", "text_en": "Local filing is done"},
        by=WANG,
    )
    compliance.sign(item, by=LI, reason="备案回执已核对")
    metric = make_metrics()
    journey, first, second_stage = make_rollout(flag, staff, active, metric)
    keys.create("production", "server", "app", by=WANG)
    UserList.objects.create(key="vip", kind="allow", label_zh="贵宾名单", label_en="VIPs")
    ImportJob.objects.create(
        kind="payments",
        file_name="payments.csv",
        sha256="0" * 64,
        started_at=timezone.now(),
        state="done",
    )
    return World(
        flag=flag,
        second=second,
        cohort=active,
        staff=staff,
        rollout=journey,
        stage=first,
        planned=second_stage,
        gate=gate,
        metric=metric,
        policy=policy,
        item=item,
    )


def cohort(key: str, zh: str, en: str, rule: dict[str, Any]) -> Cohort:
    values = {"key": key, "label_zh": zh, "label_en": en, "rule": rule}
    return cohort_edits.save_cohort(values, by=WANG)


def make_gates(flag: Flag, policy: RegionPolicy) -> Gate:
    """Compliance, region and risk, in the order they are asked. Returns the first."""
    adult: dict[str, Any] = {
        "and": [{">=": [{"var": "age"}, 18]}, {"==": [{"var": "student"}, False]}]
    }
    first = gates.save_gate(
        flag,
        {
            "order": 1,
            "key": "adult",
            "label_zh": "成年且非学生",
            "label_en": "Adult, no student",
            "dimension": "compliance",
            "rule": adult,
            "why": "compliance.age",
            "customer_zh": "暂不符合服务对象要求",
            "customer_en": "You are outside the group this service is for",
        },
        by=WANG,
    )
    gates.save_gate(
        flag,
        {
            "order": 2,
            "key": "region",
            "label_zh": "地区",
            "label_en": "Region",
            "dimension": "region",
            "rule": None,
            "region_policy": policy,
            "why": "region.closed",
        },
        by=WANG,
    )
    gates.save_gate(
        flag,
        {
            "order": 3,
            "key": "risk",
            "label_zh": "风险分",
            "label_en": "Risk score",
            "dimension": "fraud",
            "rule": {"<": [{"var": "risk_score"}, 60]},
            "why": "fraud.score",
        },
        by=WANG,
    )
    gates.save_tier(
        flag,
        {
            "order": 1,
            "key": "high",
            "label_zh": "高活跃",
            "label_en": "Very active",
            "rule": {">=": [{"var": "monthly_payments"}, 31]},
            "payload": {"indicative_limit_cny": 15600},
        },
        by=WANG,
    )
    assert Tier.objects.count() == 1
    return first


def make_metrics() -> Metric:
    """One metric that must not rise."""
    return metrics.save_metric(
        "production",
        {
            "key": "complaints",
            "label_zh": "客诉率",
            "label_en": "Complaints",
            "kind": "binary",
            "harm": "increase",
        },
        by=WANG,
    )


def make_rollout(
    flag: Flag, staff: Cohort, active: Cohort, metric: Metric
) -> tuple[Rollout, Stage, Stage]:
    """Internal, then 5 %, then everybody; approved by another, started, and looked at once."""
    journey = rollouts.create(flag, by=WANG, name="首次灰度")
    first = stages.save_stage(
        journey,
        {
            "order": 1,
            "key": "internal",
            "label_zh": "内部员工",
            "label_en": "Internal",
            "audience": staff,
            "share_ppm": 1_000_000,
            "waiver": "内部试用",
        },
        by=WANG,
    )
    planned = stages.save_stage(
        journey,
        {
            "order": 2,
            "key": "five",
            "label_zh": "5% 用户",
            "label_en": "Five percent",
            "audience": active,
            "share_ppm": 50_000,
            "weights": [{"rule": {">": [{"var": "weekly_payments"}, 20]}, "weight": 3}],
            "minimum_stay": timedelta(days=14),
        },
        by=WANG,
    )
    stages.save_stage(
        journey,
        {"order": 3, "key": "full", "label_zh": "全量", "label_en": "Everybody", "waiver": "-"},
        by=WANG,
    )
    stages.save_guard(planned, metric, {"role": "must_prove", "margin_rel": 0.05}, by=WANG)
    rollouts.submit(journey, by=WANG, reason="计划已评审")
    rollouts.approve(journey, by=LI, reason="同意")
    rollouts.start(journey, by=WANG, reason="按计划开始")
    first.refresh_from_db()
    decide(first)
    assert Guard.objects.count() == 1
    return journey, first, planned


def decide(stage: Stage) -> Decision:
    """A recorded hold with one guard's reading, made by the promotion rule itself."""
    plan = promotion.Plan(
        stage=promotion.StageTimes(horizon_min=40_320, min_min=10_080),
        cells=(promotion.Cell(id="1", rho=0.5),),
        metrics=(promotion.Metric(name="complaints", kind=promotion.Kind.BINARY, margin_rel=0.05),),
    )
    state, outcome = promotion.State(), None
    for look_number in range(3):
        treated = promotion.Arm(400.0 * (look_number + 1), {"complaints": 4 * (look_number + 1)})
        control = promotion.Arm(410.0 * (look_number + 1), {"complaints": 5 * (look_number + 1)})
        at = 60.0 * (look_number + 1)
        look = promotion.Look(
            k=look_number,
            t_min=at,
            cells=(promotion.CellCounts(treated, control, "1"),),
            as_of={"complaints": promotion.AsOf(at, at)},
        )
        before = state
        state, outcome = promotion.review(plan, state, look)
        row = Decision.objects.create(
            stage=stage,
            look=look_number,
            at=timezone.now() - timedelta(minutes=10 * (3 - look_number)),
            decision=outcome.decision.value,
            code=outcome.code,
            metric=outcome.metric or "",
            text=outcome.text,
            reasons=msgspec.to_builtins(outcome.missing),
            plan=msgspec.to_builtins(plan),
            state=msgspec.to_builtins(before),
            state_after=msgspec.to_builtins(state),
            evidence={
                "look": msgspec.to_builtins(look),
                "conditions": msgspec.to_builtins(promotion.Conditions()),
            },
            outcome=msgspec.to_builtins(outcome),
            code_version=promotion.CODE_VERSION,
        )
    return row
