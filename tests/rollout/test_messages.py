"""People and their tools are told: signed, at least once, with one id, to no private address."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django.test import Client
from django.utils import timezone

from huidu.errors import InputError
from rollout.models import AuditEntry, Delivery, Flag, Outbox, Rollout, Webhook
from rollout.services import (
    deliveries,
    flags,
    keys,
    messages,
    rollouts,
    webhooks,
)
from tests.rollout.conftest import ANN, BOB, PLACE
from tests.rollout.messages_receiver import Receiver, serve

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.HUIDU_PRIVATE_TARGETS = ["127.0.0.0/8"]
    with serve() as told:
        yield told


@pytest.fixture
def hook(receiver: Receiver, flag: Flag) -> Webhook:
    row, secret = webhooks.create(PLACE, {"name": "ops", "url": receiver.url}, by=ANN)
    assert secret.startswith("whsec_")
    return row


def deliver(after: timedelta = timedelta(0)) -> dict[str, int]:
    return deliveries.deliver_due(now=timezone.now() + after)


def test_a_kill_is_told_with_a_signature_that_fits(hook: Webhook, receiver: Receiver, flag: Flag):
    flags.kill(flag, by=ANN, reason="errors everywhere")
    assert deliver() == {"delivered": 1, "failed": 0}
    ((headers, body),) = receiver.got
    told = json.loads(body)
    assert told["type"] == "flag.killed"
    assert told["specversion"] == "1.0"
    assert told["id"] == headers["webhook-id"]
    assert told["data"]["flag"] == "weilidai"
    assert told["data"]["reason"] == "errors everywhere"
    assert told["data"]["link"].endswith(f"/admin/rollout/flag/{flag.pk}/change/")
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(hook.secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert deliver() == {"delivered": 0, "failed": 0}


def test_promotions_and_rollbacks_are_told(hook: Webhook, receiver: Receiver, running: Rollout):
    Flag.objects.update(four_eyes=False)
    running.flag.refresh_from_db()
    rollouts.promote(running, by=ANN, reason="looks good")
    rollouts.rollback(running, by=BOB, reason="no")
    deliver()
    first, second = (json.loads(body) for _, body in receiver.got)
    assert (first["type"], second["type"]) == (messages.PROMOTED, messages.ROLLED_BACK)
    assert (first["data"]["from_stage"], first["data"]["stage"]) == ("internal", "some")
    assert (second["data"]["by"], second["data"]["status"]) == (BOB.name, "rolled_back")


def test_what_was_rolled_back_is_not_told(hook: Webhook, receiver: Receiver, flag: Flag):
    with transaction.atomic():
        messages.tell_killed(flag, by=ANN, reason="x")
        transaction.set_rollback(True)
    assert deliver() == {"delivered": 0, "failed": 0}
    assert not receiver.got


def test_a_failure_is_tried_again_with_the_same_id(hook: Webhook, receiver: Receiver, flag: Flag):
    receiver.status = 503
    flags.kill(flag, by=ANN, reason="x")
    assert deliver() == {"delivered": 0, "failed": 1}
    row = Delivery.objects.get()
    assert (row.attempts, row.status, row.error) == (1, 503, "the receiver answered 503")
    assert deliver() == {"delivered": 0, "failed": 0}  # not before its pause is over
    receiver.status = 200
    assert deliver(timedelta(minutes=1)) == {"delivered": 1, "failed": 0}
    first, second = (headers["webhook-id"] for headers, _ in receiver.got)
    assert first == second
    hook.refresh_from_db()
    assert (hook.failures, hook.failing_since) == (0, None)


def test_pauses_grow_and_end(hook: Webhook, receiver: Receiver, flag: Flag):
    receiver.status = 500
    flags.kill(flag, by=ANN, reason="x")
    messages.fan_out(now=timezone.now())
    row = Delivery.objects.get()
    now, pauses = timezone.now(), []
    for _ in range(len(deliveries.PAUSES)):
        deliveries.attempt(row, now=now)
        row.refresh_from_db()
        assert row.next_at is not None
        pauses.append(row.next_at - now)
    assert pauses == list(deliveries.PAUSES) == sorted(pauses)
    deliveries.attempt(row, now=now)
    row.refresh_from_db()
    assert row.next_at is None


def test_a_webhook_dead_for_days_is_switched_off_on_record(
    hook: Webhook, receiver: Receiver, flag: Flag
):
    receiver.status = 500
    flags.kill(flag, by=ANN, reason="x")
    long_ago = timezone.now() - deliveries.DISABLED_AFTER
    Webhook.objects.update(failing_since=long_ago, failures=20)
    deliver()
    hook.refresh_from_db()
    assert not hook.enabled
    entry = AuditEntry.objects.latest("sequence")
    assert (entry.action, entry.actor) == ("webhook.disabled", "engine")
    assert "500" in entry.reason
    assert Delivery.objects.get().next_at is None
    webhooks.update(hook, {"enabled": True}, by=ANN)
    hook.refresh_from_db()
    assert (hook.enabled, hook.failures, hook.failing_since) == (True, 0, None)


def test_a_receiver_that_says_gone_is_switched_off_at_once(
    hook: Webhook, receiver: Receiver, flag: Flag
):
    receiver.status = 410
    flags.kill(flag, by=ANN, reason="x")
    deliver()
    hook.refresh_from_db()
    assert not hook.enabled


def test_a_redirect_is_not_followed(hook: Webhook, receiver: Receiver, flag: Flag):
    receiver.status, receiver.location = 302, receiver.url
    flags.kill(flag, by=ANN, reason="x")
    assert deliver()["failed"] == 1
    assert len(receiver.got) == 1


def test_private_addresses_need_the_setting(
    hook: Webhook, receiver: Receiver, flag: Flag, settings: Any
):
    settings.HUIDU_PRIVATE_TARGETS = []
    flags.kill(flag, by=ANN, reason="x")
    assert deliver()["failed"] == 1
    assert not receiver.got
    assert "HUIDU_PRIVATE_TARGETS" in Delivery.objects.get().error


def test_a_webhook_hears_only_what_it_asked_for(hook: Webhook, receiver: Receiver, flag: Flag):
    webhooks.update(hook, {"events": [messages.ROLLED_BACK]}, by=ANN)
    flags.kill(flag, by=ANN, reason="x")
    assert deliver() == {"delivered": 0, "failed": 0}


@pytest.mark.parametrize(
    "events", [["nothing"], [60], [[]], [None], [{}, "x"], "huidu", 5, {"a": 1}, 0, "", None, False]
)
def test_what_is_no_event_is_refused_by_name(hook: Webhook, events: Any):
    with pytest.raises(InputError, match=r"expected (events among|a list of events)") as refused:
        webhooks.update(hook, {"events": events}, by=ANN)
    assert refused.value.path == "events"


def test_one_dead_receiver_does_not_keep_the_others_waiting(
    hook: Webhook, receiver: Receiver, flag: Flag
):
    webhooks.create(PLACE, {"name": "dead", "url": "http://127.0.0.1:9/"}, by=ANN)
    flags.kill(flag, by=ANN, reason="x")
    flags.resume(flag, by=ANN, reason="x", approved_by=BOB)
    flags.kill(flag, by=ANN, reason="y")
    assert deliver() == {"delivered": 2, "failed": 1}


def test_people_of_the_flag_get_a_mail(flag: Flag):
    flags.update(flag, {"notify": ["risk@example.com"]}, by=ANN)
    flags.kill(flag, by=ANN, reason="errors everywhere")
    assert deliver() == {"delivered": 1, "failed": 0}
    (letter,) = mail.outbox
    assert letter.to == ["risk@example.com"]
    assert "flag.killed weilidai" in letter.subject
    assert "errors everywhere" in letter.body
    assert f"/admin/rollout/flag/{flag.pk}/change/" in letter.body


def test_where_nobody_listens_nothing_waits(flag: Flag):
    flags.kill(flag, by=ANN, reason="x")
    assert not Outbox.objects.filter(kind=Outbox.Kind.WEBHOOK).exists()


def test_old_deliveries_are_forgotten(hook: Webhook, receiver: Receiver, flag: Flag):
    flags.kill(flag, by=ANN, reason="x")
    deliver()
    assert deliveries.forget_old(now=timezone.now()) == 0
    assert deliveries.forget_old(now=timezone.now() + timedelta(days=31)) == 1


def test_the_api_makes_tries_and_removes_a_webhook(receiver: Receiver, flag: Flag):
    token = keys.create(PLACE, "admin", "ann's", by=ANN)[1]
    client = Client(headers={"Authorization": f"Bearer {token}"})
    base = "/api/v1/manage/webhooks"
    json_type: Any = {"content_type": "application/json"}
    made = client.post(base, {"name": "ops", "url": receiver.url}, **json_type)
    assert made.status_code == 201, made.content
    row = Webhook.objects.get()
    assert made.json()["secret"] == row.secret
    assert "secret" not in client.get(f"{base}/{row.pk}").json()
    tried = client.post(f"{base}/{row.pk}/test", **json_type).json()
    assert (tried["status"], tried["event"], tried["next_at"]) == (204, "huidu.test", None)
    assert json.loads(receiver.got[0][1])["type"] == "huidu.test"
    assert client.get(f"{base}/{row.pk}/deliveries").json()["results"][0]["status"] == 204
    changed = client.patch(f"{base}/{row.pk}", {"enabled": False}, **json_type)
    assert changed.json()["enabled"] is False
    wrong = client.patch(f"{base}/{row.pk}", {"url": "ftp://x/y"}, **json_type)
    assert wrong.status_code == 400
    assert client.delete(f"{base}/{row.pk}", {"reason": "x"}, **json_type).status_code == 204
    assert not Webhook.objects.exists()
    assert row.secret not in json.dumps(list(AuditEntry.objects.values("before", "after")))
