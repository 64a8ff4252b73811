"""What the database itself refuses, and the registry it starts with."""

from __future__ import annotations

import pytest

from cohorts import mappers
from cohorts.models import Attribute, Profile

pytestmark = pytest.mark.django_db


def test_the_built_in_attributes_hold_their_slots():
    slots = {each.id: each.name for each in mappers.attributes()}
    assert slots[1] == "region"
    assert slots[3] == "weekly_payments"
    assert slots[19] == "optout"
    assert max(slots) < 100


def test_every_built_in_fact_is_a_column_or_a_window():
    columns = {field.name for field in Profile._meta.get_fields()}
    held = {each.name for each in mappers.attributes() if each.source != "caller"}
    assert held - columns == {"weekly_payments", "monthly_payments"}


def test_custom_attributes_are_numbered_from_100_and_a_slot_is_never_dealt_twice():
    first = Attribute.objects.create(name="vip_level", type="integer")
    assert first.id >= 100
    slot = first.id
    first.delete()
    assert Attribute.objects.create(name="city_tier", type="integer").id > slot
