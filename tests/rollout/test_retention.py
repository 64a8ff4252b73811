"""Values at the end of their term: gone from everywhere, and replay says so instead of guessing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cohorts import mappers, selectors
from cohorts.models import Attribute, Profile, ProfileHistory, RetentionRun
from cohorts.services import packing, profiles, rebuild
from cohorts.services import retention as terms
from cohorts.services import store as packed
from huidu.wire.profile import address, user_of
from rollout.models import AuditEntry, Flag
from rollout.services import attribute_edits, gates, retention
from rollout.services.voices import voice
from tests.rollout.conftest import ANN, BOB

pytestmark = pytest.mark.django_db(transaction=True)
NIGHT = datetime(2026, 5, 20, 19, 0, tzinfo=UTC)  # 03:00 in Shanghai, on the 21st
DAY = timedelta(days=1)


@pytest.fixture
def score(flag: Flag) -> Attribute:
    values = {"name": "tier_score", "type": "integer", "retention_days": 30}
    attribute_edits.save_attribute(values, by=ANN)
    for name in ("assets_cny", "risk_score"):
        row = Attribute.objects.get(name=name)
        attribute_edits.save_attribute(
            {"retention_days": 30}, by=ANN, attribute=row, reason="agreed", approved_by=BOB
        )
    return Attribute.objects.get(name="tier_score")


def learn(user: str, ago: int, **facts: Any) -> None:
    taken = profiles.ingest_profiles([{"user_id": user, **facts}], NIGHT - ago * DAY, pack=False)
    assert taken.accepted == 1, taken


def night(now: datetime = NIGHT) -> int:
    return retention.carry_on(now, seconds=20)


def held(user: str, at: datetime = NIGHT) -> dict[str, Any]:
    found = selectors.profile_at(user, at)
    assert found is not None
    return {name: each for name, each in found.attributes.items() if "payments" not in name}


def test_a_value_over_its_term_is_gone_from_profile_history_and_record(
    redis: Any, score: Attribute
) -> None:
    learn("u1", 40, tier_score=7, assets_cny=12.5, risk_score=20, age=30)
    learn("u1", 10, region="440300")  # another fact keeps nothing else alive
    learn("u2", 29, tier_score=7)
    rebuild.rebuild_profiles(NIGHT)
    assert night() == 2
    row = Profile.objects.get(pk="u1")
    assert (row.attributes, row.assets_cny, row.risk_score, row.risk_scored_on) == ({},) + (
        None,
    ) * 3
    assert (row.age, row.region) == (30, "440300")
    assert Profile.objects.get(pk="u2").attributes == {"tier_score": 7}
    told = str(list(ProfileHistory.objects.filter(user_id="u1").values_list("changes", flat=True)))
    assert "12.5" not in told
    assert "7" not in told
    assert "20" not in told
    packing.drain_dirty()
    key, field = address("u1", packed.read_meta().buckets)
    record = user_of(redis.hget(key, field), "u1", NIGHT.date(), mappers.registry())
    assert {"age", "region"} == {n for n in record.attributes if "payments" not in n}
    (entry,) = AuditEntry.objects.filter(action="retention.applied")
    assert entry.after == {
        "users": 2,
        "erased": {
            name: {"values": 1, "history": 1} for name in ("assets_cny", "risk_score", "tier_score")
        },
    }


def test_replay_says_no_longer_held_before_the_night_and_unknown_after_it(
    redis: Any, score: Attribute, flag: Flag
) -> None:
    gate = {"order": 1, "key": "score", "dimension": "value", "why": "value.score"}
    gates.save_gate(flag, gate | {"rule": {">=": [{"var": "tier_score"}, 5]}}, by=ANN)
    learn("u1", 40, tier_score=7)
    night()
    past = selectors.profile_at("u1", NIGHT - 20 * DAY)
    after = selectors.profile_at("u1", NIGHT + DAY)
    assert past is not None
    assert after is not None
    assert (past.no_longer_held, after.no_longer_held) == ({"tier_score"}, frozenset())
    assert "tier_score" not in {*past.attributes, *after.attributes}
    from rollout.services.answering import compiled_snapshot, snapshot_in_force, words_for

    compiled, _ = compiled_snapshot("production", snapshot_in_force("production"))
    for at, lost in ((NIGHT - 20 * DAY, ["tier_score"]), (NIGHT + DAY, None)):
        user = selectors.held_user("u1", at)
        found = compiled.explain("weilidai", user)
        words = words_for("production", "weilidai")
        told = voice(compiled, found, user, audience="support", language="en", words=words, at=at)
        assert told.get("no_longer_held") == lost
        (need,) = [each for step in told["steps"] for each in step["needs"]]
        assert need.get("no_longer_held", False) is bool(lost)


def test_a_value_that_is_sent_again_begins_its_term_anew(redis: Any, score: Attribute) -> None:
    for ago in (60, 45, 44, 29):
        learn("u1", ago, tier_score=7)
    # Once in a tenth of the term it is noted that the value is still so: not the day after.
    moments = (
        ProfileHistory.objects.filter(user_id="u1").order_by("at").values_list("at", flat=True)
    )
    assert [(NIGHT - at).days for at in moments] == [60, 45, 29]
    night()
    assert held("u1") == {"tier_score": 7}
    assert selectors.held_user("u1", NIGHT - 20 * DAY).attributes["tier_score"] == 7
    past = selectors.profile_at("u1", NIGHT - 50 * DAY)
    assert past is not None
    assert past.no_longer_held == {"tier_score"}


def test_a_night_goes_on_where_it_was_killed_and_comes_once(
    redis: Any, score: Attribute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms, "BATCH", 2)
    for number in range(5):
        learn(f"u{number}", 40, tier_score=number)
    assert night(NIGHT - timedelta(hours=2)) == 0  # one o'clock
    terms._begin(NIGHT)
    assert terms._batch(NIGHT, lambda run: None) == 2

    def killed(run: RetentionRun) -> None:
        raise KeyboardInterrupt

    terms._batch(NIGHT, killed)
    with pytest.raises(KeyboardInterrupt):
        terms._batch(NIGHT, killed)
    run = RetentionRun.objects.get()
    assert (run.after, run.users, run.erased["tier_score"]["values"]) == ("u3", 4, 4)
    assert night() == 1
    run.refresh_from_db()
    assert (run.after, run.users, run.finished_at) == ("", 5, NIGHT)
    assert run.erased == {"tier_score": {"values": 5, "history": 5}}
    assert night(NIGHT + timedelta(hours=1)) == 0
    assert RetentionRun.objects.count() == 1
