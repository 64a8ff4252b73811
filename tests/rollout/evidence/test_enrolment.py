"""Who takes part in a stage's comparison, in which arm, and with what chance."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import msgspec
import pytest

from huidu.engine import bucketing
from huidu.model import (
    FULL_THRESHOLD,
    Admission,
    Attribute,
    AttributeType,
    Flag,
    Gate,
    RegionClass,
    RegionPolicy,
    Rollout,
    RolloutStatus,
    Snapshot,
    Stage,
    User,
    Weight,
)
from rollout.models import Arm
from rollout.services.enrolment import EARLIER_STAGE, NO_STAGE, PPB, Arms, Enrolled, Ignored

SLOT = 7
STAFF = {"==": [{"var": "staff"}, True]}
BUSY = {">": [{"var": "weekly_payments"}, 20]}
ATTRIBUTES = [
    Attribute(id=1, name="region", type=AttributeType.REGION),
    Attribute(id=2, name="staff", type=AttributeType.BOOLEAN),
    Attribute(id=3, name="weekly_payments", type=AttributeType.INTEGER),
]
REGIONS = RegionPolicy(
    classes=[
        RegionClass(key="open"),
        RegionClass(key="restricted", ceiling_ppm=430_000),
        RegionClass(key="closed", ceiling_ppm=0),
    ],
    regions={"410100": "restricted", "540100": "closed"},
    default="open",
)


def stage(key: str, ppm: int, audience: dict[str, Any] | None = None, **more: Any) -> Stage:
    threshold = bucketing.threshold_of(ppm)
    return Stage(key=key, share_ppm=ppm, threshold=threshold, audience=audience or {}, **more)


def arms(*stages: Stage, sticky: bool = True, **more: Any) -> Arms:
    """The last of the stages is the running one."""
    rollout = Rollout(
        slot=SLOT,
        salt="salt",
        status=RolloutStatus.RUNNING,
        stages=list(stages),
        current=len(stages) - 1,
        sticky=sticky,
    )
    flag = Flag(key="loan", version=1, rollout=rollout, **more)
    return Arms(
        Snapshot(
            environment="production",
            sequence=1,
            published_at="2026-01-01T00:00:00Z",
            attributes=ATTRIBUTES,
            cohorts=[],
            flags=[flag],
        ),
        "loan",
    )


def user(key: str, weight: int = 1, admitted: bool = False, **facts: Any) -> User:
    return User(key, facts, {SLOT: Admission(weight, admitted)})


def test_the_draw_decides_the_arm():
    coin = arms(stage("half", 500_000))
    found = [coin.place(user(f"u{i}")) for i in range(2_000)]
    assert all(isinstance(each, Enrolled) for each in found)
    drawn = [bucketing.bucket("salt", f"u{i}") < FULL_THRESHOLD // 2 for i in range(2_000)]
    assert [each.arm is Arm.TREATED for each in found if isinstance(each, Enrolled)] == drawn


@pytest.mark.parametrize(
    "stages",
    [
        pytest.param((stage("five", 50_000),), id="one share"),
        pytest.param((stage("one", 10_000), stage("five", 50_000)), id="after a smaller share"),
        pytest.param(
            (stage("internal", 1_000_000, STAFF), stage("five", 50_000)), id="after staff"
        ),
        pytest.param(
            (stage("busy", 30_000, BUSY), stage("five", 50_000)), id="after another audience"
        ),
    ],
)
def test_the_chance_is_how_often_a_user_of_the_cell_is_treated(stages: tuple[Stage, ...]):
    coin = arms(
        *stages, gates=[Gate(key="region", dimension="region", why="region.closed", region=REGIONS)]
    )
    counts: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for i in range(24_000):
        facts = {
            "region": ("410100", "440300", "540100")[i % 3],
            "staff": i % 50 == 0,
            "weekly_payments": 30 if i % 7 == 0 else 3,
        }
        found = coin.place(user(f"u{i}", 3 if i % 4 == 0 else 1, **facts))
        if isinstance(found, Enrolled):
            counts[found.stratum, found.chance_ppb][found.arm is Arm.TREATED] += 1
    assert len({chance for _, chance in counts}) >= 3
    for (_, chance), (control, treated) in counts.items():
        n, rho = control + treated, chance / PPB
        assert abs(treated - n * rho) <= 4 * math.sqrt(n * rho * (1 - rho)) + 1


def test_users_of_an_earlier_stage_tell_nothing_about_this_one():
    coin = arms(stage("internal", 1_000_000, STAFF), stage("five", 50_000))
    found = {coin.place(user(f"u{i}", staff=True)) for i in range(200)}
    assert found == {Ignored(EARLIER_STAGE)}


def test_both_arms_must_pass_the_audience_today_although_the_drawn_keep_the_product():
    coin = arms(stage("half", 500_000, BUSY))
    quiet = {coin.place(user(f"u{i}", admitted=i % 2 == 0, weekly_payments=1)) for i in range(200)}
    assert quiet == {Ignored("tier.not_in_stage")}


def test_a_user_on_the_allow_list_was_not_chosen_by_a_coin():
    coin = arms(stage("half", 500_000), allow_list=frozenset({"vip"}))
    assert coin.place(user("vip")) == Ignored("allowed.list")


def test_a_refused_user_is_ignored_with_the_refusal():
    gate = Gate(key="region", dimension="region", why="region.closed", region=REGIONS)
    coin = arms(stage("half", 500_000), gates=[gate])
    assert coin.place(user("u", region="540100")) == Ignored("region.closed")
    assert coin.place(user("u")) == Ignored("data.missing")


def test_live_weights_make_the_stratum_where_the_rollout_is_not_sticky():
    weighted = stage("five", 50_000, weights=[Weight(rule=BUSY, weight=3)])
    coin = arms(weighted, sticky=False)
    found = coin.place(user("u", weekly_payments=30))
    assert isinstance(found, Enrolled)
    assert (found.stratum, found.chance_ppb) == (3, 149_999_999)


def test_what_the_application_says_counts_only_where_it_may_speak():
    coin = arms(stage("half", 500_000, BUSY))
    assert coin.place(user("u"), {"weekly_payments": 30}) == Ignored("data.missing")


@pytest.mark.parametrize("status", [RolloutStatus.COMPLETED, RolloutStatus.DRAFT])
def test_without_a_running_stage_nothing_is_compared(status: RolloutStatus):
    coin = arms(stage("half", 500_000))
    snapshot = Snapshot(
        environment="production",
        sequence=2,
        published_at="2026-01-01T00:00:00Z",
        attributes=ATTRIBUTES,
        cohorts=[],
        flags=[
            msgspec.structs.replace(
                coin.flag, rollout=msgspec.structs.replace(coin.rollout, status=status)
            )
        ],
    )
    assert Arms(snapshot, "loan").place(user("u")) == Ignored(NO_STAGE)
