"""A ramp inside a stage grows while nothing speaks against it, and only then."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from huidu.promotion import Decision, Missing, Outcome
from huidu.promotion.ramp import ONLY_NOT_YET, Ramp, Step, advance

RAMP = Ramp(
    share_ppm=2_500,
    minutes=1_440.0,
    users=50,
    steps=(
        Step(share_ppm=10_000, after_minutes=1_440, users=50),
        Step(share_ppm=50_000, after_minutes=2_880, users=200),
    ),
)


def held(*codes: str) -> Outcome:
    missing = tuple(Missing(code=each, text=each) for each in codes)
    return Outcome(decision=Decision.HOLD, code=codes[0], text="held", missing=missing)


def at(**values: Any) -> Ramp:
    return msgspec.structs.replace(RAMP, **values)


@pytest.mark.parametrize("code", sorted(ONLY_NOT_YET))
def test_what_only_waits_for_more_users_lets_the_share_grow(code: str):
    answer = advance(RAMP, held(code))
    assert (answer.grows, answer.to_ppm) == (True, 10_000)


@pytest.mark.parametrize(
    "code",
    [
        "no_data",
        "stale_source",
        "freshness_unknown",
        "silent_feed",
        "bad_evidence",
        "counts_fell",
        "harm_suspected",
        "severity_suspected",
        "too_good_to_be_true",
        "sample_ratio",
        "sample_ratio_now",
        "gauge_unknown",
        "gauge_breached",
        "paused",
        "compliance_unsigned",
        "capacity_exhausted",
        "freeze_window",
        "horizon_over",
        "plan_invalid",
        "a code of tomorrow",
    ],
)
def test_anything_else_keeps_it(code: str):
    answer = advance(RAMP, held("not_yet_proven", code))
    assert not answer.grows
    assert [each.code for each in answer.missing] == [code]


def test_a_step_waits_for_its_time_and_its_users():
    answer = advance(at(minutes=1_000.0, users=7), held("minimum_stay"))
    assert not answer.grows
    assert [each.code for each in answer.missing] == ["ramp_time", "ramp_users"]
    assert answer.missing[0].values == {"minutes_left": 440.0}


def test_harm_takes_no_step():
    harm = Outcome(decision=Decision.ROLL_BACK, code="harm_proven", text="worse", metric="failed")
    assert not advance(RAMP, harm).grows


def test_a_share_widened_by_hand_skips_the_steps_it_has_passed():
    assert advance(at(share_ppm=20_000), held("minimum_stay")).to_ppm == 50_000


def test_after_the_last_step_the_ramp_is_over():
    answer = advance(at(share_ppm=50_000), held("minimum_stay"))
    assert (answer.grows, answer.to_ppm) == (False, None)
