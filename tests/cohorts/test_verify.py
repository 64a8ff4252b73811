"""Receipts are checked by drawing again, and by what they admitted."""

from __future__ import annotations

import datetime
import io

import pytest
from django.core.management import call_command

from cohorts.models import Admission, Draw, Profile
from cohorts.services import draws, profiles, verify
from tests.cohorts.conftest import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture
def receipt(redis: object) -> Draw:
    facts = [{"user_id": f"u{n}", "age": 18 + n % 50, "staff": n % 9 == 0} for n in range(300)]
    profiles.ingest_profiles(facts, now=NOW)
    draws.draw_stage(subject="a#3", slot=3, salt="a.3", stage_key="one", share_ppm=50_000, now=NOW)
    later = NOW + datetime.timedelta(hours=1)
    made = draws.draw_stage(
        subject="a#3",
        slot=3,
        salt="a.3",
        stage_key="two",
        share_ppm=200_000,
        weights=[{"rule": {"==": [{"var": "staff"}, True]}, "weight": 3}],
        now=later,
    )
    return Draw.objects.get(pk=made.pk)


def told(*arguments: str) -> str:
    out = io.StringIO()
    call_command("verify_draw", *arguments, stdout=out)
    return out.getvalue()


def test_a_draw_is_repeated_from_what_is_stored(receipt: Draw) -> None:
    assert verify.verify(receipt) == verify.Verdict([], repeated=True)
    assert f"draw {receipt.pk} a#3/two: agrees (drawn again)" in told("--all")


def test_a_changed_fact_is_said_and_is_no_difference(receipt: Draw) -> None:
    Profile.objects.filter(user_id="u1").delete()
    assert verify.verify(receipt) == verify.Verdict([], repeated=False)
    assert "not redrawn" in told(str(receipt.pk))


@pytest.mark.parametrize("name", ["n", "population", "threshold"])
def test_a_receipt_that_was_changed_differs(receipt: Draw, name: str) -> None:
    Draw.objects.filter(pk=receipt.pk).update(**{name: int(getattr(receipt, name)) + 1})
    receipt.refresh_from_db()
    found = verify.verify(receipt)
    assert found.repeated
    assert any(name in fault for fault in found.faults)
    with pytest.raises(SystemExit) as stopped:
        told(str(receipt.pk))
    assert stopped.value.code == 1


def test_an_admission_nobody_drew_differs_even_when_facts_have_changed(receipt: Draw) -> None:
    Profile.objects.filter(user_id="u1").delete()
    drawn = set(Admission.objects.filter(admitted=True).values_list("user_id", flat=True))
    outsider = next(f"u{n}" for n in range(2, 300) if f"u{n}" not in drawn)
    Admission.objects.filter(user_id=outsider).delete()
    Admission.objects.create(
        user_id=outsider, slot=3, admitted=True, since=receipt.as_of, via="draw", weight=1
    )
    found = verify.verify(receipt)
    assert "1 of the users drawn do not rank below the threshold" in found.faults
