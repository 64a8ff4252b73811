"""Draws: exact to the user, repeatable from the receipt, never taking anybody out."""

from __future__ import annotations

import pytest

from cohorts import selectors
from cohorts.models import Admission, Cohort, Draw
from cohorts.services import admissions, packing
from cohorts.services.draws import draw_stage
from cohorts.services.ingest import ingest_payments, ingest_profiles
from huidu.engine.bucketing import bucket
from huidu.errors import RuleError
from huidu.model import FULL_THRESHOLD
from huidu.model import Admission as Remembered
from tests.cohorts.conftest import NOW

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]

HEAVY = [{"rule": {">": [{"var": "weekly_payments"}, 2]}, "weight": 3}]


@pytest.fixture(autouse=True)
def thousand_users() -> None:
    """u0..u999: every tenth pays three times a week; the first 900 gave consent."""
    ingest_profiles(
        [{"user_id": f"u{i}", "consent": True if i < 900 else None} for i in range(1_000)], NOW
    )
    ingest_payments(
        [
            {"event_id": f"e{i}-{n}", "user_id": f"u{i}", "paid_at": "2026-05-19T10:00:00+08:00"}
            for i in range(0, 1_000, 10)
            for n in range(3)
        ],
        NOW,
    )


def draw(share_ppm: int, before: Draw | None = None, **more) -> Draw:
    return draw_stage(
        subject="weilidai#1",
        slot=1,
        salt="s",
        stage_key=f"share-{share_ppm}",
        share_ppm=share_ppm,
        previous_threshold=int(before.threshold) if before else 0,
        now=NOW,
        **{"audience": {"var": "consent"}, "weights": HEAVY, **more},
    )


def drawn() -> set[str]:
    return set(Admission.objects.filter(admitted=True).values_list("user_id", flat=True))


def test_the_share_is_exact_and_the_unknown_are_not_drawn():
    receipt = draw(50_000)
    assert (receipt.population, receipt.n) == (900, 45)
    assert len(drawn()) == 45
    assert all(int(user[1:]) < 900 for user in drawn())


def test_the_threshold_alone_decides_as_a_check_does():
    c = int(draw(50_000).threshold)
    for number in range(900):
        weight = 3 if number % 10 == 0 else 1
        assert (bucket("s", f"u{number}") < c * weight) == (f"u{number}" in drawn())


def test_heavy_users_are_remembered_with_their_weight_drawn_or_not():
    draw(50_000)
    heavy = Admission.objects.filter(weight=3)
    assert heavy.count() == 90
    assert not Admission.objects.filter(weight=1, admitted=False).exists()


def test_strata_tell_users_and_chances_by_weight():
    receipt = draw(50_000)
    light, heavy = receipt.strata
    assert (light["weight"], light["eligible"]) == (1, 810)
    assert (heavy["weight"], heavy["eligible"]) == (3, 90)
    assert light["drawn"] + heavy["drawn"] == 45
    assert heavy["chance"] == pytest.approx(3 * light["chance"])


def test_widening_keeps_everybody_and_is_exact_again():
    first = draw(50_000)
    inside = drawn()
    second = draw(200_000, first)
    assert inside < drawn()
    assert len(drawn()) == second.n == 180


def test_a_frozen_weight_never_falls():
    first = draw(50_000)
    inside = drawn()
    draw(50_000, first, weights=[])
    assert drawn() >= inside
    assert Admission.objects.filter(weight=3).count() == 90


def test_somebody_shown_before_counts_among_the_share():
    outsider = next(f"u{i}" for i in range(1, 900) if bucket("s", f"u{i}") > FULL_THRESHOLD // 2)
    assert admissions.admit(1, [outsider], now=NOW) == 1
    assert admissions.admit(1, [outsider], now=NOW) == 0
    draw(50_000)
    assert outsider in drawn()
    assert len(drawn()) == 45


def test_equal_inputs_have_equal_receipts():
    first = draw(50_000)
    Admission.objects.all().delete()
    again = draw(50_000)
    assert (again.input_hash, again.threshold) == (first.input_hash, first.threshold)
    Admission.objects.all().delete()
    assert draw(50_000, weights=[]).input_hash != first.input_hash


def test_the_audience_may_be_a_cohort():
    Cohort.objects.create(key="consenting", rule={"var": "consent"}, exclude=["u0"])
    assert draw(50_000, audience={"cohort": "consenting"}).population == 899


def test_nobody_and_everybody_can_be_drawn():
    assert draw(0).threshold == 0
    assert not drawn()
    everybody = draw(1_000_000)
    assert everybody.threshold == FULL_THRESHOLD
    assert len(drawn()) == 900


def test_an_empty_population_draws_nobody():
    assert draw(50_000, audience={"var": "student"}).n == 0


def test_a_wrong_weight_is_refused_with_its_place():
    with pytest.raises(RuleError, match=r"weights\[0\].weight: .* got 0"):
        draw(50_000, weights=[{"rule": {}, "weight": 0}])
    assert not Draw.objects.exists()


def test_the_drawn_are_in_the_packed_profile(packed):
    draw(50_000)
    packing.drain_dirty()
    user = sorted(drawn())[0]
    remembered = packed(user).admissions[1]
    assert remembered.admitted
    assert remembered == selectors.held_user(user, NOW).admissions[1]
    assert packed("u0").admissions[1].weight == 3
    assert packed("u999").admissions == {}
    assert isinstance(remembered, Remembered)
