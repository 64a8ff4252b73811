"""Payments in: once each, on their own day, whatever else is in the request."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from cohorts.models import DailyPayments, DirtyProfile, PaymentEvent, Profile
from cohorts.services.ingest import ingest_payments
from cohorts.services.items import MAX_ITEMS
from huidu.errors import InputError

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]

NOW = datetime.datetime(2026, 5, 20, 4, 0, tzinfo=datetime.UTC)  # noon in Shanghai
TODAY = datetime.date(2026, 5, 20)


def payment(number: int = 1, user: str = "u1", at: Any = "2026-05-20T10:00:00+08:00", **more: Any):
    return {"event_id": f"e{number}", "user_id": user, "paid_at": at, **more}


def counts() -> dict[tuple[str, datetime.date], int]:
    return {(row.user_id, row.day): row.count for row in DailyPayments.objects.all()}


def test_a_payment_is_counted_on_its_day_in_shanghai():
    ingest_payments(
        [
            payment(1, at="2026-05-19T15:59:59.999999Z"),
            payment(2, at="2026-05-19T16:00:00Z"),
        ],
        NOW,
    )
    assert counts() == {("u1", datetime.date(2026, 5, 19)): 1, ("u1", TODAY): 1}


def test_the_same_event_is_never_counted_twice():
    first = ingest_payments([payment(1), payment(1), payment(2)], NOW)
    again = ingest_payments([payment(2), payment(1), payment(3)], NOW)
    assert (first.accepted, first.duplicates) == (2, 1)
    assert (again.accepted, again.duplicates) == (1, 2)
    assert counts() == {("u1", TODAY): 3}


def test_the_first_of_two_events_with_one_id_stays():
    ingest_payments([payment(1, "u1"), payment(1, "u2")], NOW)
    ingest_payments([payment(1, "u3")], NOW)
    assert PaymentEvent.objects.get().user_id == "u1"
    assert counts() == {("u1", TODAY): 1}


def test_a_late_payment_lands_on_its_own_day_however_old():
    ingest_payments([payment(1, at="1997-01-01T12:00:00Z")], NOW)
    assert counts() == {("u1", datetime.date(1997, 1, 1)): 1}


def test_amounts_are_summed_exactly_and_may_be_absent_or_zero():
    amounts = [{"amount_cny": 0.1}, {"amount_cny": "0.20"}, {}, {"amount_cny": 0}]
    ingest_payments([payment(i, **each) for i, each in enumerate(amounts)], NOW)
    day = DailyPayments.objects.get()
    assert (day.count, day.amount) == (4, Decimal("0.30"))


def test_days_of_very_large_payments_do_not_overflow():
    large = [payment(i, amount_cny="999999999999.99") for i in range(200)]
    assert ingest_payments(large, NOW).accepted == 200


def test_a_payer_without_a_profile_gets_one_and_waits_to_be_packed():
    ingest_payments([payment(1)], NOW, pack=False)
    assert Profile.objects.get().region is None
    assert DirtyProfile.objects.get().user_id == "u1"


@pytest.mark.parametrize(
    ("item", "code"),
    [
        pytest.param(payment(amount_cny=-1), "amount_cny.negative", id="refund"),
        pytest.param(payment(amount_cny="-0.001"), "amount_cny.negative", id="tiny refund"),
        pytest.param(payment(amount_cny="NaN"), "amount_cny.invalid", id="NaN"),
        pytest.param(payment(amount_cny="Infinity"), "amount_cny.invalid", id="infinity"),
        pytest.param(payment(amount_cny="1e999999999"), "amount_cny.invalid", id="huge"),
        pytest.param(payment(amount_cny=True), "amount_cny.invalid", id="boolean amount"),
        pytest.param(payment(amount_cny=[[[]]]), "amount_cny.invalid", id="nested amount"),
        pytest.param(payment(at="2026-05-21T04:00:01Z"), "paid_at.future", id="tomorrow + 1 s"),
        pytest.param(payment(at="9999-12-31T23:59:59-12:00"), "paid_at.future", id="year 9999"),
        pytest.param(payment(at="0001-01-01T00:00:00+14:00"), "paid_at.past", id="year 1"),
        pytest.param(payment(at="2026-05-20T10:00:00"), "paid_at.zone_missing", id="no zone"),
        pytest.param(payment(at="yesterday"), "paid_at.invalid", id="words"),
        pytest.param(payment(at=1779264000), "paid_at.invalid", id="Unix seconds"),
        pytest.param(payment(user=""), "user_id.invalid", id="empty user"),
        pytest.param(payment(user="u" * 129), "user_id.invalid", id="129 characters"),
        pytest.param(payment(user="u" * 10_000), "user_id.invalid", id="10,000 characters"),
        pytest.param(payment(user="a\0b"), "user_id.invalid", id="NUL"),
        pytest.param(payment(user="a\nb"), "user_id.invalid", id="line feed"),
        pytest.param(payment(user="a\ud800"), "user_id.invalid", id="lone surrogate"),
        pytest.param(payment(user=7), "user_id.invalid", id="number as id"),
        pytest.param(payment(user=None), "user_id.invalid", id="null user"),
        pytest.param(payment(currency="USD"), "field.unknown", id="unknown field"),
        pytest.param({"event_id": "e", "user_id": "u"}, "paid_at.missing", id="no moment"),
        pytest.param("e1", "item.invalid", id="a text"),
        pytest.param(None, "item.invalid", id="null"),
    ],
)
def test_a_faulty_item_is_rejected_with_its_code_and_the_others_count(item: Any, code: str):
    result = ingest_payments([payment(7), item, payment(8)], NOW)
    assert [(each.index, each.code) for each in result.rejected] == [(1, code)]
    assert result.accepted == 2
    assert counts() == {("u1", TODAY): 2}


@pytest.mark.parametrize(
    "user", ["张三", "user🚀", "o6_bmjrPTlm6_2sgVt7hMZOPfL2M", "a b", "u" * 128]
)
def test_any_unicode_text_may_be_a_user(user: str):
    assert ingest_payments([payment(user=user)], NOW).accepted == 1
    assert counts() == {(user, TODAY): 1}


def test_a_day_ahead_of_the_clock_is_accepted():
    assert ingest_payments([payment(at="2026-05-21T04:00:00Z")], NOW).accepted == 1


def test_too_many_items_are_refused_whole():
    with pytest.raises(InputError, match="at most 5000"):
        ingest_payments([payment(i) for i in range(MAX_ITEMS + 1)], NOW)
    assert not PaymentEvent.objects.exists()
