"""A receipt of an answered check is answered again the same, whatever happened since."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from redis import Redis

from huidu.model import PPM, Flag
from huidu.wire import names
from huidu.wire import receipt as wire
from huidu.wire import snapshot as snapshots
from rollout.models import AuditEntry, Receipt, Snapshot, StreamMark
from rollout.services import forget, keys, receipts, replay_receipts
from tests.edge.running import Running, Store, flags
from tests.rollout.admin.test_writes import logged_in
from tests.rollout.conftest import ANN, PLACE
from tests.rollout.test_forget import tables_naming
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
PUBLISHED: list[Any] = []
USERS = ("ada", "bob", "eve", "nobody-held")


def keeping(ppm: int = PPM) -> list[Flag]:
    return [msgspec.structs.replace(each, receipts_ppm=ppm) for each in flags()]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Store]:
    made = Store()
    made.fill()
    yield made
    made.close()


@pytest.fixture(scope="module")
def edge(nodes: Store) -> Iterator[Running]:
    running = Running(nodes)
    yield running
    running.stop()


@pytest.fixture
def answered(nodes: Store, edge: Running, redis: Redis) -> list[dict[str, Any]]:
    """Answers that a check server gave, its snapshot and receipts where the platform has them."""
    nodes.client.delete(names.RECEIPTS_STREAM)
    made = nodes.publish(keeping())
    wait_for(lambda: edge.see("half", "ada").json["snapshot"] == version(made))
    PUBLISHED.append(made)
    for each in PUBLISHED:  # late receipts of an earlier test may still come
        keep(each)
    nodes.client.delete(names.RECEIPTS_STREAM)
    told = [
        edge.see(flag, user).json for flag in ("weilidai", "half", "staff-only") for user in USERS
    ]
    edge.bulk("ada")
    last = edge.check("half", "ada").json["metadata"]["decisionId"]
    wait_for(lambda: last in {each.decision for each in kept(nodes)})  # they leave in their order
    for entry in nodes.client.xrange(names.RECEIPTS_STREAM):
        redis.xadd(names.RECEIPTS_STREAM, entry[1])
    return told


def version(snapshot: Any) -> str:
    return snapshots.version_of(snapshots.encode(snapshot))


def keep(snapshot: Any) -> None:
    blob = snapshots.encode(snapshot)
    Snapshot.objects.get_or_create(
        environment=PLACE,
        sequence=snapshot.sequence,
        defaults={
            "version": snapshots.version_of(blob),
            "blob": blob,
            "published_at": timezone.now(),
        },
    )


def kept(nodes: Store) -> list[wire.Receipt]:
    rows: Any = nodes.client.xrange(names.RECEIPTS_STREAM)
    return [each for _, fields in rows for each in wire.decode_all(fields[b"receipts"])]


def test_every_answer_is_found_by_its_id_and_replays(
    answered: list[dict[str, Any]], nodes: Store, edge: Running
) -> None:
    stored = receipts.drain()["stored"]
    assert stored >= len(answered)
    assert receipts.drain() == {}
    for told in answered:
        found = receipts.find(PLACE, told["decision_id"])
        assert found is not None
        given = (told["flag"], told["user"], told["visible"], told["why"])
        assert (found.flag, found.user, found.visible, found.why) == given
    # The users change, and one is removed: what was answered stays what it was.
    nodes.hold("ada", region="510100", staff=False, updated=date(2026, 1, 1))
    nodes.forget("bob")
    try:
        for row in Receipt.objects.all():
            assert replay_receipts.differences(wire.decode(bytes(row.body))) == []
        out = io.StringIO()
        call_command("verify_receipts", "--flag", "weilidai", stdout=out)
        assert "0 differ" in out.getvalue()
    finally:
        nodes.fill()


def test_three_voices_from_one_id(answered: list[dict[str, Any]], redis: Redis) -> None:
    receipts.drain()
    (eve,) = [each for each in answered if (each["flag"], each["user"]) == ("weilidai", "eve")]
    assert eve["why"].startswith("fraud.")
    _, token = keys.create(PLACE, "admin", "admin", by=ANN)
    admin = Client(headers={"Authorization": f"Bearer {token}", "accept-language": "en"})
    url = f"/api/v1/decisions/{eve['decision_id']}"
    support = admin.get(url).json()
    assert (support["why"], support["replay_agrees"]) == (eve["why"], True)
    customer = admin.get(url, {"audience": "customer"}).json()
    assert customer["why"] == "product.not_invited"
    assert "code" not in customer
    assert admin.get(url, {"audience": "risk"}).status_code == 400
    assert admin.get(url, {"audience": "risk", "reason": "appeal"}).json()["why"] == eve["why"]
    assert AuditEntry.objects.filter(action="explanation.read_as_risk").count() == 1
    for odd in ("nothing", "0" * 22, "Z" * 22, "é"):
        assert admin.get(f"/api/v1/decisions/{odd}").status_code == 404
    out = io.StringIO()
    call_command("explain", "--decision", eve["decision_id"], "--steps", stdout=out)
    assert eve["why"] in out.getvalue()
    with pytest.raises(CommandError, match="no receipt"):
        call_command("explain", "--decision", "0" * 22)


@pytest.mark.parametrize("language", ["zh-hans", "en"])
def test_a_permalink_explains_the_answer_that_was_given(
    answered: list[dict[str, Any]], flag: Any, language: str
) -> None:
    receipts.drain()
    User.objects.create(username="wang", is_staff=True, is_superuser=True)
    client = logged_in(User.objects.get(username="wang"))
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = language
    decision = answered[0]["decision_id"]
    page = client.get(reverse("admin:diagnose"), {"decision": decision}).content.decode()
    assert f'data-receipt="{decision}"' in page
    assert "hd-bad" not in page.split("data-receipt")[0].rsplit("<p", 1)[1]
    missing = client.get(reverse("admin:diagnose"), {"decision": "0" * 22}).content.decode()
    assert 'role="alert"' in missing


def test_a_changed_receipt_is_noticed(answered: list[dict[str, Any]]) -> None:
    receipts.drain()
    row = Receipt.objects.filter(why="shown").first()
    assert row is not None
    lie = msgspec.structs.replace(wire.decode(bytes(row.body)), visible=False, why="region.closed")
    assert {each.path for each in replay_receipts.differences(lie)} == {"visible", "why"}
    Receipt.objects.filter(pk=row.pk).update(body=wire.encode(lie))
    with pytest.raises(CommandError, match="1 of"):
        call_command("verify_receipts", stdout=io.StringIO())
    Receipt.objects.filter(pk=row.pk).update(body=b"\x00")
    with pytest.raises(CommandError, match="1 of"):
        call_command("verify_receipts", stdout=io.StringIO())


def test_the_forgotten_leave_no_receipt_and_others_still_replay(
    answered: list[dict[str, Any]], redis: Redis
) -> None:
    forget.forget_user("ada", by=ANN, reason="a letter")
    assert tables_naming('"ada"') == []
    assert not Receipt.objects.filter(user_id="ada").exists()
    assert Receipt.objects.filter(user_id="eve").exists()
    assert b"ada" not in repr(redis.xrange(names.RECEIPTS_STREAM)).encode()
    call_command("verify_receipts", stdout=io.StringIO())


def test_what_cannot_be_read_is_passed_over(redis: Redis) -> None:
    good = receipt_at(timezone.now())
    odd = [
        {"receipts": b"nonsense"},
        {"other": b""},
        {"receipts": wire.encode([msgspec.structs.replace(good, decision="x")])},
        {"receipts": wire.encode([receipt_at(timezone.now() + timedelta(days=9))])},
        {"receipts": wire.encode([good, good])},
    ]
    for fields in odd:
        redis.xadd(names.RECEIPTS_STREAM, fields)  # type: ignore[arg-type]
    assert receipts.drain() == {"unreadable": 2, "refused": 2, "stored": 1}
    assert StreamMark.objects.filter(name=names.RECEIPTS_STREAM).exists()


def test_old_months_are_dropped_whole(settings: Any) -> None:
    settings.HUIDU_RECEIPT_DAYS = 40
    for month in ("2020-01", "2020-02", "2020-03", "2020-04"):
        receipts.make_partition(month)
        receipts.make_partition(month)
    dropped = receipts.drop_old(now=datetime(2020, 4, 15, tzinfo=UTC))
    assert dropped == ["rollout_receipt_2020_01", "rollout_receipt_2020_02"]
    with connection.cursor() as cursor:
        for month in ("03", "04"):
            cursor.execute(f"DROP TABLE rollout_receipt_2020_{month}")


def receipt_at(at: datetime) -> wire.Receipt:
    from edge.clock import base32

    ms = int(at.timestamp() * 1000)
    decision = (base32(ms, 10) + b"0" * 12).decode()
    told = (True, "on", "SPLIT", "shown", None, 1, "engine-1")
    return wire.Receipt(decision, PLACE, "weilidai", "u1", ms, 739_000, 1, *told)


def test_a_sample_keeps_its_share(nodes: Store, edge: Running) -> None:
    made = nodes.publish(keeping(500_000))
    wait_for(lambda: edge.see("half", "ada").json["snapshot"] == version(made))
    for _ in range(200):
        edge.see("weilidai", "ada")
    after = nodes.publish(keeping())
    wait_for(lambda: edge.see("half", "ada").json["snapshot"] == version(after))
    last = edge.see("half", "ada").json["decision_id"]
    wait_for(lambda: last in {each.decision for each in kept(nodes)})
    mine = [each for each in kept(nodes) if each.flag == "weilidai"]
    assert 50 < sum(each.sequence == made.sequence for each in mine) < 150  # 7 standard errors
