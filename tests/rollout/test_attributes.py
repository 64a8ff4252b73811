"""The attribute registry: one way in, and nothing moves under a rule or a past answer."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from cohorts import selectors
from cohorts.models import Attribute
from cohorts.services import packing, profiles, rebuild
from huidu.errors import HuiduError, StateError
from huidu.wire import snapshot as wire
from rollout.models import AuditEntry, ChangeRequest, Flag, RegionPolicy, Rollout, Snapshot
from rollout.services import attribute_edits, attribute_uses, changes, cohort_edits, gates, keys
from tests.rollout.conftest import ANN, BOB, PLACE
from tests.rollout.test_api import Caller

pytestmark = pytest.mark.django_db(transaction=True)
HERE = "/api/v1/manage/attributes"
NEW = {"name": "tier_score", "type": "integer", "minimum": 0, "maximum": 10, "label_zh": "等级分"}


@pytest.fixture
def ann(flag: Flag) -> Caller:
    return Caller(keys.create(PLACE, "admin", "ann's", by=ANN)[1])


@pytest.fixture
def score(flag: Flag) -> Attribute:
    return attribute_edits.save_attribute(NEW, by=ANN)


def gate(flag: Flag, name: str) -> Any:
    values = {"order": 1, "key": "score", "dimension": "value", "why": "value.score"}
    return gates.save_gate(flag, values | {"rule": {">=": [{"var": name}, 5]}}, by=ANN)


def send(user: str, **facts: Any) -> Any:
    return profiles.ingest_profiles([{"user_id": user, **facts}], timezone.now())


def test_a_new_attribute_works_from_the_registry_to_the_packed_record(
    running: Rollout, ann: Caller
) -> None:
    made = ann.send(HERE, NEW)
    assert made.status_code == 201, made.content
    assert made.json()["id"] >= 100
    rebuild.rebuild_profiles(timezone.now())
    assert send("u1", tier_score=7).accepted == 1
    assert send("u2", tier_score=11).rejected[0].code == "attribute.invalid"
    packing.drain_dirty()
    filed = ann.send(
        "/api/v1/manage/gates",
        {"flag": "weilidai", "order": 1, "key": "score", "dimension": "value", "why": "value.low"}
        | {"reason": "only good scores", "rule": {">=": [{"var": "tier_score"}, 5]}},
    )
    changes.approve(ChangeRequest.objects.get(pk=filed.json()["id"]), by=BOB)
    answers = {
        user: ann.get(f"/api/v1/flags/weilidai/users/{user}").json() for user in ("u1", "nobody")
    }
    assert answers["u1"]["visible"]
    assert answers["nobody"]["why"] == "data.missing"
    latest = wire.decode(bytes(Snapshot.objects.latest("sequence").blob))
    assert "tier_score" in {each.name for each in latest.attributes}
    told = ann.get(f"{HERE}/tier_score/uses").json()
    assert [(each["kind"], each["name"]) for each in told] == [("gate", "weilidai/score")]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param({"name": "Bad Name", "type": "integer"}, "name", id="no name"),
        pytest.param({"name": "region", "type": "region"}, "name", id="taken"),
        pytest.param({"name": "lists", "type": "string"}, "name", id="the platform's own"),
        pytest.param({"name": "x", "type": "money"}, "type", id="no such type"),
        pytest.param({"name": "x"}, "type", id="no type"),
        pytest.param({"name": "x", "type": "string", "minimum": 1}, "minimum", id="no range"),
        pytest.param(
            {"name": "x", "type": "integer", "minimum": 2, "maximum": 1},
            "minimum",
            id="upside down",
        ),
        pytest.param({"name": "x", "type": "integer", "unit": "u" * 41}, "unit", id="long unit"),
        pytest.param(
            {"name": "x", "type": "integer", "retention_days": 0}, "retention_days", id="no term"
        ),
        pytest.param(
            {"name": "x", "type": "string", "source": "caller", "retention_days": 9},
            "retention_days",
            id="never held",
        ),
    ],
)
def test_a_bad_attribute_is_refused_with_the_path(ann: Caller, body: Any, path: str) -> None:
    before = Attribute.objects.count()
    answer = ann.send(HERE, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["path"] == path, answer.content
    assert Attribute.objects.count() == before


def test_an_attribute_in_use_is_neither_renamed_retyped_retired_nor_deleted(
    flag: Flag, ann: Caller, score: Attribute
) -> None:
    gate(flag, "tier_score")
    rule = {"!": {"or": [{"var": "staff"}, {"<": [{"var": "tier_score"}, 3]}]}}
    cohort_edits.save_cohort({"key": "low", "rule": rule}, by=ANN)
    entries = AuditEntry.objects.count()
    for answer in (
        ann.send(f"{HERE}/tier_score/rename", {"name": "score2", "reason": "nicer"}),
        ann.send(f"{HERE}/tier_score", {"type": "number"}, "patch"),
        ann.send(f"{HERE}/tier_score/retire", {"reason": "old"}),
        ann.send(f"{HERE}/tier_score", {"reason": "old"}, "delete"),
    ):
        fault = answer.json()["error"]
        assert (answer.status_code, fault["code"]) == (409, "attribute.in_use")
        assert "cohort low, gate weilidai/score" in fault["message"]
    inside = ann.send(f"{HERE}/tier_score", {"name": "score2"}, "patch")
    assert (inside.status_code, inside.json()["error"]["path"]) == (400, "name")
    assert Attribute.objects.get(pk=score.pk).name == "tier_score"
    assert AuditEntry.objects.count() == entries


def test_what_was_held_keeps_its_name_and_type_and_is_replayed_after_it_is_retired(
    flag: Flag, ann: Caller, score: Attribute
) -> None:
    send("u1", tier_score=7)
    then = timezone.now()
    for answer in (
        ann.send(f"{HERE}/tier_score/rename", {"name": "score2", "reason": "nicer"}),
        ann.send(f"{HERE}/tier_score", {"type": "number"}, "patch"),
        ann.send(f"{HERE}/tier_score", {"source": "caller"}, "patch"),
        ann.send(f"{HERE}/tier_score", {"reason": "old"}, "delete"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "attribute.held")
    assert ann.send(f"{HERE}/tier_score/retire", {"reason": "old"}).status_code == 200
    assert send("u1", tier_score=8).rejected[0].code == "attribute.retired"
    with pytest.raises(HuiduError, match="registered attribute"):
        gate(flag, "tier_score")
    assert selectors.held_user("u1", then).attributes["tier_score"] == 7
    assert ann.send(f"{HERE}/tier_score/restore", {"reason": "again"}).status_code == 200
    assert send("u1", tier_score=8).accepted == 1


def test_an_attribute_that_nothing_rests_on_is_renamed_and_deleted(
    flag: Flag, ann: Caller, score: Attribute
) -> None:
    answer = ann.send(f"{HERE}/tier_score/rename", {"name": "score2", "reason": "nicer"})
    assert answer.json()["name"] == "score2"
    assert ann.send(f"{HERE}/score2", {"reason": "a mistake"}, "delete").status_code == 204
    again = attribute_edits.save_attribute(NEW, by=ANN)
    assert again.pk > score.pk
    told = AuditEntry.objects.filter(action__startswith="attribute.").values_list(
        "action", flat=True
    )
    assert list(told) == [
        "attribute.created",
        "attribute.removed",
        "attribute.renamed",
        "attribute.created",
    ]


@pytest.mark.parametrize(
    "values",
    [{"type": "number"}, {"source": "either"}, {"minimum": 1}, {"unit": "x"}],
    ids=lambda values: next(iter(values)),
)
def test_what_is_built_in_keeps_its_meaning(ann: Caller, values: Any) -> None:
    answer = ann.send(f"{HERE}/age", values, "patch")
    assert answer.status_code == 400
    assert answer.json()["error"]["path"] == next(iter(values))
    assert ann.send(f"{HERE}/age/retire", {"reason": "x"}).status_code == 409
    assert ann.send(f"{HERE}/age", {"label_en": "Years"}, "patch").json()["label_en"] == "Years"


@pytest.mark.parametrize(
    "values",
    [{"sensitivity": "ordinary"}, {"retention_days": "30"}],
    ids=["less protection", "values go"],
)
def test_less_protection_and_shorter_terms_take_two_people(ann: Caller, values: Any) -> None:
    filed = ann.send(f"{HERE}/assets_cny", values | {"reason": "asked"}, "patch")
    assert filed.status_code == 202, filed.content
    row = Attribute.objects.get(name="assets_cny")
    assert (row.sensitivity, row.retention_days) == ("financial", None)
    changes.approve(ChangeRequest.objects.get(), by=BOB, note="right")
    row.refresh_from_db()
    assert str(getattr(row, next(iter(values)))) == str(next(iter(values.values())))


def test_the_meaning_of_what_a_live_flag_uses_takes_two_people(
    running: Rollout, score: Attribute
) -> None:
    gates.save_gate(
        running.flag,
        {"order": 1, "key": "score", "dimension": "value", "why": "value.score"}
        | {"rule": {">=": [{"var": "tier_score"}, 5]}},
        by=ANN,
        approved_by=BOB,
    )
    assert attribute_uses.flags_using("tier_score") == [running.flag]
    with pytest.raises(StateError, match="needs a second person"):
        attribute_edits.save_attribute({"maximum": 6}, by=ANN, attribute=score)
    with pytest.raises(HuiduError, match="from 0 to 4"):  # the rule asks for 5
        attribute_edits.save_attribute({"maximum": 4}, by=ANN, attribute=score, approved_by=BOB)
    score.refresh_from_db()
    assert score.maximum == 10


def test_the_region_is_used_by_gates_that_name_it_in_no_rule(flag: Flag) -> None:
    gate(flag, "weekly_payments")
    policy = RegionPolicy.objects.create(environment=flag.environment, key="map")
    more = {"why": "region.closed", "dimension": "region"}
    flag.gates.create(order=7, key="where", region_policy=policy, **more)
    flag.gates.create(order=8, key="places", capacity=True, **more)
    found = [str(use) for use in attribute_uses.uses_of("region")]
    assert found == [f"gate {flag.key}/where", f"gate {flag.key}/places"]


def test_a_rename_waits_for_rules_that_are_being_written(flag: Flag, score: Attribute) -> None:
    """A rule checked against the old name is seen, though it was not committed yet."""
    faults: list[str] = []

    def rename() -> None:
        try:
            attribute_edits.rename(score, "score2", by=BOB, reason="nicer")
        except HuiduError as fault:
            faults.append(fault.code)
        finally:
            connection.close()

    other = threading.Thread(target=rename)
    with transaction.atomic():
        gate(flag, "tier_score")
        other.start()
        other.join(0.3)
        assert other.is_alive()
    other.join()
    assert faults == ["attribute.in_use"]
    assert json.dumps(list(flag.gates.values_list("rule", flat=True))).count("tier_score") == 1
