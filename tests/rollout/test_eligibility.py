"""Whom a share is a share of: the rule agrees with what the gates themselves decide."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cohorts import mappers
from cohorts.services.audience import Judge
from huidu.engine import compile_snapshot
from huidu.model import (
    PPM,
    Attribute,
    AttributeType,
    Flag,
    Gate,
    RegionClass,
    Rollout,
    RolloutStatus,
    Snapshot,
    Stage,
    User,
)
from huidu.model import RegionPolicy as Policy
from rollout.models import Flag as FlagRow
from rollout.models import RegionPolicy
from rollout.services import flags, gates, region_policies, rollouts, stages
from rollout.services.eligibility import eligible, names_in, open_regions
from tests.rollout.conftest import ANN, PLACE

CODES = ["440000", "440300", "440305", "310000", "310100", "540100", "110000"]
CLASSES = {"open": PPM, "capped": 400_000, "closed": 0}


@pytest.fixture
def stage(transactional_db: None, flag: FlagRow) -> Any:
    rollout = rollouts.create(flag, by=ANN)
    plan = {"order": 0, "key": "some", "share_ppm": 50_000, "minimum_stay": timedelta(0)}
    return stages.save_stage(rollout, plan, by=ANN)


@pytest.mark.django_db(transaction=True)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    regions=st.dictionaries(st.sampled_from(CODES), st.sampled_from(sorted(CLASSES))),
    default=st.sampled_from(sorted(CLASSES)),
)
def test_the_rule_of_open_regions_agrees_with_the_engine(regions: dict[str, str], default: str):
    region_policies.save_region_policy(
        PLACE,
        "any",
        classes={key: {"ceiling_ppm": ceiling} for key, ceiling in CLASSES.items()},
        regions=regions,
        default=default,
        by=ANN,
    )
    judge = Judge(open_regions(RegionPolicy.objects.get(key="any")))
    policy = Policy(
        classes=[
            RegionClass(key=key, ceiling_ppm=PPM if top else 0) for key, top in CLASSES.items()
        ],
        regions=regions,
        default=default,
    )
    engine = compile_snapshot(
        Snapshot(
            environment=PLACE,
            sequence=1,
            published_at="",
            attributes=[Attribute(id=1, name="region", type=AttributeType.REGION)],
            cohorts=[],
            flags=[
                Flag(
                    key="f",
                    version=1,
                    gates=[Gate(key="r", dimension="region", why="region.closed", region=policy)],
                    rollout=Rollout(
                        slot=1,
                        salt="s",
                        status=RolloutStatus.RUNNING,
                        stages=[Stage(key="all")],
                        current=0,
                    ),
                )
            ],
        )
    )
    for code in [*CODES, "440306", "440400", "510100", None]:
        user = User("u", {} if code is None else {"region": code})
        assert bool(judge.fits(user)) == engine.check("f", user).visible, (code, regions, default)


@pytest.mark.django_db(transaction=True)
def test_a_share_is_of_users_who_pass_every_gate_the_platform_can_judge(stage: Any):
    flag = stage.rollout.flag
    adult = {">=": [{"var": "age"}, 18]}
    recent = {"sem_ver": [{"var": "app_version"}, ">=", "8.0.0"]}
    for order, (key, rule) in enumerate({"adult": adult, "recent": recent}.items()):
        values = {"order": order, "key": key, "dimension": "product", "why": "product.x"}
        gates.save_gate(flag, values | {"rule": rule}, by=ANN)
    judge = Judge(eligible(stage))
    assert judge.fits(User("u", {"age": 30}))
    assert not judge.fits(User("u", {"age": 17}))
    assert not judge.fits(User("u", {}))


def test_names_in_a_rule_are_found_through_cohorts_that_refer_to_each_other():
    rule = {"and": [{"cohort": "a"}, {"!": {"in": [{"var": "tier"}, ["x"]]}}]}
    circle = {"a": {"or": [{"cohort": "b"}, {"var": ["staff"]}]}, "b": {"cohort": "a"}}
    assert names_in(rule, circle) == {"tier", "staff"}


@pytest.mark.django_db(transaction=True)
def test_a_flag_without_gates_draws_from_everybody(stage: Any):
    assert eligible(stage) == {}
    assert flags.target_of(stage.rollout.flag) == "flag:weilidai"
    assert mappers.registry()
