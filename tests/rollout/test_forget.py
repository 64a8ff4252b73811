"""A person who is forgotten is named nowhere: not in any table, not in Redis."""

from __future__ import annotations

import io
from typing import Any

import pytest
import redis as redis_py
from django.core.management import call_command
from django.db import IntegrityError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cohorts.models import UserList
from cohorts.services import admissions, ingest, list_uploads, lists, packing, profiles, rebuild
from huidu.engine import compile_snapshot
from huidu.errors import InputError, StateError
from huidu.model import User
from huidu.wire import names
from huidu.wire import snapshot as wire
from huidu.wire.profile import address
from rollout.models import AuditEntry, Exposure, Flag, OutcomeEvent, Snapshot, StreamMark
from rollout.services import (
    audit,
    changes,
    cohort_edits,
    flags,
    forget,
    pseudonyms,
    publishing,
    reading,
)
from tests.rollout.admin import world
from tests.rollout.admin.test_writes import logged_in

pytestmark = pytest.mark.django_db(transaction=True)
USER = "person-7f3e"


def tables_naming(text: str) -> list[str]:
    """Every table with a row that holds the text in any column, arrays and JSON included."""
    with connection.cursor() as cursor:
        found = []
        for name in connection.introspection.table_names(cursor):
            cursor.execute(
                f'SELECT count(*) FROM "{name}" AS r WHERE r::text LIKE %s', [f"%{text}%"]
            )
            if cursor.fetchall()[0][0]:
                found.append(name)
    return found


def redis_names(client: redis_py.Redis, text: str) -> bool:
    """Whether a key, or a field or value below it, holds the text."""
    for key in client.scan_iter(count=1_000):
        kind = client.type(key)
        held: Any = b""
        if kind == b"hash":
            held = client.hgetall(key)
        elif kind == b"string":
            held = client.get(key)
        elif kind == b"stream":
            held = client.xrange(key)
        if text in repr((key, held)):
            return True
    return False


@pytest.fixture
def bank(redis: redis_py.Redis) -> world.World:
    bank = world.build(5)
    now = timezone.now()
    rebuild.rebuild_profiles(now)
    profiles.ingest_profiles([{"user_id": USER, "age": 30}], now=now)
    profiles.ingest_profiles([{"user_id": USER, "age": 31}], now=now)
    paid = {"event_id": f"pay-{USER}", "user_id": USER, "paid_at": now.isoformat()}
    ingest.ingest_payments([paid], now=now)
    vip = UserList.objects.get(key="vip")
    lists.add_members(vip.pk, [USER, "other"])
    file = io.BytesIO(f"{USER}\nu1\n".encode())
    list_uploads.upload(vip.pk, file, file_name="vip.csv", by="wang", mode="remove")
    admissions.admit(bank.rollout.slot, [USER], now=now)
    Exposure.objects.create(
        rollout=bank.rollout, stage=bank.stage, user_id=USER, arm="treated", first_at=now
    )
    OutcomeEvent.objects.create(
        event_id=f"out-{USER}", environment="production", user_id=USER, metric="x", at=now
    )
    entry = redis.xadd(names.EXPOSURES_STREAM, {"user": USER})
    StreamMark.objects.update_or_create(
        name=names.EXPOSURES_STREAM, defaults={"entry": entry.decode()}
    )
    packing.drain_dirty()
    return bank


def test_a_forgotten_user_is_named_nowhere(bank: world.World, redis: redis_py.Redis) -> None:
    assert len(tables_naming(USER)) == 10
    key, field = address(USER, packing.store.read_meta().buckets)
    assert redis.hexists(key, field)
    gone = forget.forget_user(USER, by=world.WANG, reason="asked for by letter")
    assert sum(gone.values()) == 11
    assert tables_naming(USER) == []
    assert not redis.hexists(key, field)
    assert not redis_names(redis, USER)
    assert UserList.objects.get(key="vip").size == 1


def test_the_log_keeps_a_pseudonym(bank: world.World) -> None:
    call_command("forget_user", USER, "--reason", "a letter", "--yes", "--by", "wang")
    entry = AuditEntry.objects.get(action="profile.forgotten")
    assert entry.target == f"user:{forget.pseudonym(USER)}"
    assert entry.after is not None
    assert entry.after["cohorts_profilehistory"] == 2
    assert forget.held(USER) == {}


def answers(row: Snapshot) -> list[str]:
    """What everybody else is told by a snapshot."""
    compiled = compile_snapshot(wire.decode(bytes(row.blob)))
    users = [User(key, {"age": 30, "student": False}) for key in ("other", "u0001", "stranger")]
    return [compiled.check("weilidai", user).why for user in users]


def test_who_was_listed_once_is_gone_from_snapshots_requests_and_the_log(
    bank: world.World,
) -> None:
    change = changes.request(
        "flag.update",
        bank.flag.pk,
        {"allow_users": [USER, "other"]},
        environment="production",
        by=world.WANG,
        reason=f"{USER} tries it",
    )
    changes.approve(change, by=world.LI, note=f"{USER} agreed")
    publishing.publish_pending()
    named = publishing.last_snapshot("production")
    assert named is not None
    before = answers(named)
    reading.note(world.WANG, "production", "weilidai", USER, reason=f"appeal of {USER}")
    with pytest.raises(StateError, match="named in flag weilidai"):
        forget.forget_user(USER, by=world.WANG, reason="a letter")
    listed = {"allow_users": ["other"]}
    flags.update(bank.flag, listed, by=world.WANG, reason=f"{USER} left", approved_by=world.LI)
    publishing.publish_pending()
    assert pseudonyms.about(AuditEntry.objects.all(), USER).count() == 5

    forget.forget_user(USER, by=world.WANG, reason="a letter")

    assert tables_naming(USER) == []
    old = Snapshot.objects.get(pk=named.pk)
    (flag,) = [each for each in wire.decode(bytes(old.blob)).flags if each.key == "weilidai"]
    assert USER not in flag.allow_list
    assert "other" in flag.allow_list
    assert answers(old) == before
    assert (old.version, old.redacted_at is None) == (named.version, False)
    entry = AuditEntry.objects.get(action="profile.forgotten")
    assert entry.after is not None
    assert entry.after["snapshots"][0].startswith(f"production@{old.sequence} ")
    assert audit.verify_chain().whole
    for values in ({"by": "x"}, {"blob": named.blob}):
        with pytest.raises(IntegrityError):
            Snapshot.objects.filter(pk=old.pk).update(**values)
    found = logged_in(world.people()[0]).get(
        reverse("admin:rollout_auditentry_changelist"), {"q": USER}
    )
    assert found.context["cl"].result_count == 6


def test_nobody_is_forgotten_while_a_request_or_what_is_published_names_them(
    bank: world.World,
) -> None:
    change = changes.request(
        "flag.update",
        bank.flag.pk,
        {"block_users": [USER]},
        environment="production",
        by=world.WANG,
        reason="fraud",
    )
    with pytest.raises(StateError, match=f"request that waits names the user .#{change.pk}"):
        forget.forget_user(USER, by=world.WANG, reason="a letter")
    changes.approve(change, by=world.LI)
    publishing.publish_pending()
    Flag.objects.filter(pk=bank.flag.pk).update(block_users=[])  # not published yet
    with pytest.raises(StateError, match="still named in what is published"):
        forget.forget_user(USER, by=world.WANG, reason="a letter")
    assert forget.held(USER)


def test_a_user_whom_a_cohort_names_is_not_half_forgotten(bank: world.World) -> None:
    cohort_edits.save_cohort(
        {"include": [USER]}, by=world.WANG, cohort=bank.staff, approved_by=world.LI
    )
    with pytest.raises(StateError, match="named in cohort staff"):
        forget.forget_user(USER, by=world.WANG, reason="a letter")
    assert forget.held(USER)


@pytest.mark.parametrize("reason", ["", f"forget {USER}"])
def test_a_reason_is_needed_and_names_nobody(bank: world.World, reason: str) -> None:
    with pytest.raises(InputError):
        forget.forget_user(USER, by=world.WANG, reason=reason)


def test_the_page_says_what_goes_and_asks_once(bank: world.World) -> None:
    client: Client = logged_in(world.people()[0])
    page = client.get(reverse("admin:cohorts_profile_change", args=(USER,))).content.decode()
    url = reverse("admin:cohorts_profile_act", args=(USER, "forget"))
    assert url in page
    assert "11 rows go" in client.get(url + "?reach=1").content.decode()
    assert client.post(url, {"reason": ""}).status_code == 200
    assert forget.held(USER)
    assert client.post(url, {"reason": "a letter"}).status_code == 302
    assert forget.held(USER) == {}
