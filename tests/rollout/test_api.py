"""The HTTP API: rights, services behind every write, and clear answers to bad input."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from redis import Redis

from huidu.wire import access, names
from huidu.wire import snapshot as wire
from rollout.models import ApiKey, AuditEntry, ChangeRequest, Flag, Rollout
from rollout.services import flags, gates, keys
from tests.rollout.conftest import ANN, BOB, PLACE

pytestmark = pytest.mark.django_db(transaction=True)

MANAGE = "/api/v1/manage"


class Caller(Client):
    """A client with an API key."""

    def __init__(self, token: str) -> None:
        super().__init__(headers={"Authorization": f"Bearer {token}"})

    def send(self, path: str, body: Any = None, method: str = "post") -> Any:
        return getattr(self, method)(path, json.dumps(body or {}), content_type="application/json")


@pytest.fixture
def ann(flag: Flag) -> Caller:
    return Caller(keys.create(PLACE, "admin", "ann's", by=ANN)[1])


@pytest.fixture
def bob(flag: Flag) -> Caller:
    return Caller(keys.create(PLACE, "admin", "bob's", by=BOB)[1])


def key_of(kind: str, environment: str = PLACE) -> Caller:
    return Caller(keys.create(environment, kind, f"a {kind}", by=ANN)[1])


def test_a_missing_or_unknown_key_is_told_to_authenticate(flag: Flag):
    for client in (Client(), Caller("hd_admin_nobody"), Caller("x" * 5000), Caller("")):
        answer = client.get(f"{MANAGE}/flags")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert set(answer.json()["error"]) == {"code", "message", "path"}


@pytest.mark.parametrize("kind", ["server", "client", "ingest"])
def test_a_key_without_the_right_is_refused(flag: Flag, kind: str):
    answer = key_of(kind).get(f"{MANAGE}/flags")
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "permission_denied"


def test_a_revoked_key_ends_at_once(ann: Caller, redis: Redis):
    row = ApiKey.objects.get()
    second = Caller(keys.create(PLACE, "admin", "second", by=ANN)[1])
    answer = ann.send(f"{MANAGE}/keys/{row.pk}/revoke", {"reason": "lost"})
    assert answer.status_code == 200
    assert ann.get(f"{MANAGE}/flags").status_code == 401
    assert second.get(f"{MANAGE}/flags").status_code == 200
    live = access.decode(redis.get(names.ACCESS))
    assert [key.kind for key in live.keys] == ["admin"]


def test_a_keys_text_is_shown_once_and_stored_nowhere(ann: Caller):
    made = ann.send(f"{MANAGE}/keys", {"kind": "server", "name": "app"}).json()
    assert made["token"].startswith("hd_server_")
    row = ApiKey.objects.get(name="app")
    assert row.digest == access.digest(made["token"])
    listed = (
        ann.get(f"{MANAGE}/keys").content
        + json.dumps(list(AuditEntry.objects.values("before", "after"))).encode()
    )
    assert made["token"].encode() not in listed
    assert row.digest.encode() not in listed


def test_a_key_sees_its_own_environment_only(flag: Flag):
    staging = key_of("admin", "staging")
    assert staging.get(f"{MANAGE}/flags").json()["count"] == 0
    assert staging.get(f"{MANAGE}/flags/weilidai").status_code == 404
    told = staging.get(f"{MANAGE}/audit").json()["results"]
    assert {each["environment"] for each in told} == {"staging"}
    assert staging.send(f"{MANAGE}/flags/weilidai/kill", {"reason": "x"}).status_code == 404


def test_a_flag_goes_from_nothing_to_a_running_rollout_over_http(ann: Caller, bob: Caller):
    made = ann.send(f"{MANAGE}/flags", {"key": "fenfu", "label_zh": "分付"})
    assert made.status_code == 201, made.content
    rule = {">=": [{"var": "age"}, 18]}
    gate = {"flag": "fenfu", "order": 1, "key": "adult", "dimension": "compliance"}
    gate |= {"why": "compliance.age", "rule": rule}
    assert ann.send(f"{MANAGE}/gates", gate).status_code == 201
    rollout = ann.send(f"{MANAGE}/rollouts", {"flag": "fenfu"}).json()
    stage = {"rollout": rollout["id"], "order": 1, "key": "all", "minimum_stay": "P7D"}
    answer = ann.send(f"{MANAGE}/stages", stage)
    assert answer.status_code == 201, answer.content
    assert answer.json()["minimum_stay"] == "P7DT00H00M00S"
    here = f"{MANAGE}/rollouts/{rollout['id']}"
    assert ann.send(f"{here}/submit", {"reason": "ready"}).status_code == 200
    assert ann.send(f"{here}/approve", {"reason": "mine"}).status_code == 409
    assert bob.send(f"{here}/approve", {"reason": "read"}).status_code == 200
    started = ann.send(f"{here}/start", {"reason": "go"}).json()
    assert (started["status"], started["current"]) == ("running", "all")


def test_kill_and_resume_over_http(running: Rollout, ann: Caller, bob: Caller):
    killed = ann.send(f"{MANAGE}/flags/weilidai/kill", {"reason": "fire"}).json()
    assert killed["killed"]
    assert killed["reached_nodes"]
    filed = ann.send(f"{MANAGE}/flags/weilidai/resume", {"reason": "out"})
    assert filed.status_code == 202
    number = filed.json()["id"]
    assert ann.send(f"{MANAGE}/changes/{number}/approve").status_code == 409
    assert bob.send(f"{MANAGE}/changes/{number}/approve").status_code == 200
    assert not Flag.objects.get(key="weilidai").killed


def test_a_second_key_of_the_same_person_is_no_second_person(running: Rollout, ann: Caller):
    other = Caller(keys.create(PLACE, "admin", "ann's other", by=ANN)[1])
    number = ann.send(f"{MANAGE}/rollouts/{running.pk}/promote", {"reason": "now"}).json()["id"]
    answer = other.send(f"{MANAGE}/changes/{number}/approve")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "approval.needed"
    assert ChangeRequest.objects.get().status == "pending"


def test_promotion_over_http_takes_two_people(running: Rollout, ann: Caller, bob: Caller):
    filed = ann.send(f"{MANAGE}/rollouts/{running.pk}/promote", {"reason": "now"})
    assert filed.status_code == 202
    bob.send(f"{MANAGE}/changes/{filed.json()['id']}/approve", {"note": "ok"})
    assert Rollout.objects.get(pk=running.pk).current.key == "some"


def test_the_snapshot_is_the_published_one_and_304_when_unchanged(flag: Flag, redis: Redis):
    server = key_of("server")
    answer = server.get("/api/v1/snapshot")
    assert answer.content == redis.get(names.snapshot(PLACE))
    tag = answer.headers["ETag"]
    assert server.get("/api/v1/snapshot", headers={"If-None-Match": tag}).status_code == 304
    as_json = server.get("/api/v1/snapshot", headers={"Accept": "application/json"})
    assert wire.decode_text(as_json.content) == wire.decode(answer.content)
    assert as_json.headers["ETag"] != tag
    assert key_of("client").get("/api/v1/snapshot").status_code == 403


def test_visibility_answers_with_the_contract_fields(running: Rollout):
    answer = key_of("server").get("/api/v1/flags/weilidai/users/u1")
    assert list(answer.json()) == [
        "flag",
        "user",
        "visible",
        "variant",
        "reason",
        "why",
        "stage",
        "payload",
        "decision_id",
        "snapshot",
        "evaluated_at",
    ]
    assert answer.json()["visible"] is True


def fraud_gate(flag: Flag, order: int, key: str, dimension: str, why: str) -> None:
    values = {"order": order, "key": key, "dimension": dimension, "why": why}
    values |= {"rule": {"==": [{"var": "emulator"}, False]}, "unknown_why": why}
    gates.save_gate(flag, values, by=ANN)


@pytest.mark.parametrize("language", ["zh-CN", "en"])
def test_customers_cannot_tell_a_fraud_refusal_from_any_other(flag: Flag, language: str):
    server = key_of("server")
    path = "/api/v1/flags/{}/users/u1/explanation?audience=customer"
    heads = {"Accept-Language": language}
    fraud_gate(flag, 1, "device", "fraud", "fraud.device")
    other = flags.create(PLACE, "other", by=ANN)
    fraud_gate(other, 1, "invited", "product", "product.not_invited")
    told = [server.get(path.format(key), headers=heads).json() for key in ("weilidai", "other")]
    for each in told:
        for name in ("flag", "snapshot", "sequence", "as_of"):
            each.pop(name)
    assert json.dumps(told[0], ensure_ascii=False) == json.dumps(told[1], ensure_ascii=False)
    assert "fraud" not in json.dumps(told)


def test_risk_hears_what_support_does_not(flag: Flag):
    fraud_gate(flag, 1, "device", "fraud", "fraud.device")
    path = "/api/v1/flags/weilidai/users/u1/explanation?audience="
    support = key_of("server").get(path + "support").json()
    assert "emulator" not in json.dumps(support["steps"])
    assert support["why"] == "fraud.device"
    assert key_of("ingest").get(path + "risk").status_code == 403
    risk = key_of("admin").get(path + "risk&reason=appeal+12").json()
    assert "emulator" in json.dumps(risk["steps"])


BAD = [
    pytest.param("get", "/api/v1/flags/%00/users/u1", None, 404, id="NUL in a flag's key"),
    pytest.param("get", "/api/v1/flags/weilidai/users/a%00b", None, 400, id="NUL in a user's id"),
    pytest.param("get", "/api/v1/flags/weilidai/users/" + "x" * 10_000, None, 400, id="long id"),
    pytest.param("get", "/api/v1/flags/" + "x" * 10_000 + "/users/u", None, 404, id="long key"),
    pytest.param("get", "/api/v1/flags/w/users/%ff%fe/explanation", None, 200, id="not UTF-8"),
    pytest.param(
        "get", "/api/v1/flags/weilidai/users/u/explanation?at=yesterday", None, 400, id="bad time"
    ),
    pytest.param(
        "get", "/api/v1/flags/weilidai/users/u/explanation?at=9999-99-99", None, 400, id="no time"
    ),
    pytest.param(
        "get",
        "/api/v1/flags/weilidai/users/u/explanation?at=2001-01-01T00:00:00Z",
        None,
        400,
        id="before the first snapshot",
    ),
    pytest.param(
        "get", "/api/v1/flags/weilidai/users/u/explanation?audience=me", None, 400, id="audience"
    ),
    pytest.param("get", f"{MANAGE}/flags?search=%00", None, 400, id="NUL in a search"),
    pytest.param("get", f"{MANAGE}/gates?flag__key=%00", None, 400, id="NUL in a filter"),
    pytest.param("get", f"{MANAGE}/flags?page=0", None, 404, id="no such page"),
    pytest.param("get", f"{MANAGE}/flags?page_size=99999999999999999999", None, 200, id="page"),
    pytest.param("get", f"{MANAGE}/flags?enabled=perhaps", None, 200, id="odd filter"),
    pytest.param("get", f"{MANAGE}/flags/%00", None, 404, id="NUL in a path"),
    pytest.param("get", f"{MANAGE}/rollouts/99999999999999999999999", None, 404, id="huge number"),
    pytest.param("get", f"{MANAGE}/rollouts/one", None, 404, id="no number"),
    pytest.param("get", f"{MANAGE}/audit/99999999999999999999999", None, 404, id="huge audit"),
    pytest.param("get", f"{MANAGE}/snapshots/99999999999999999999999", None, 404, id="huge seq"),
    pytest.param("get", f"{MANAGE}/decisions?stage=x", None, 400, id="filter of a wrong type"),
    pytest.param("post", f"{MANAGE}/flags", "{", 400, id="no JSON"),
    pytest.param("post", f"{MANAGE}/flags", "[]", 400, id="a list"),
    pytest.param("post", f"{MANAGE}/flags", "null", 400, id="null"),
    pytest.param("post", f"{MANAGE}/flags", '"text"', 400, id="a text"),
    pytest.param("post", f"{MANAGE}/flags", "[" * 100_000, 400, id="deep"),
    pytest.param("post", f"{MANAGE}/flags", '{"key": "a\\u0000"}', 400, id="NUL in a key"),
    pytest.param(
        "post", f"{MANAGE}/flags", '{"key": "a", "payload": {"x": "\\u0000"}}', 400, id="NUL inside"
    ),
    pytest.param(
        "post", f"{MANAGE}/flags", '{"key": "a", "payload": {"x": NaN}}', 400, id="NaN inside"
    ),
    pytest.param(
        "post",
        f"{MANAGE}/flags",
        '{"key": "a", "off_value": "\\ud800"}',
        400,
        id="half a character",
    ),
    pytest.param("post", f"{MANAGE}/flags", '{"key": "a", "variants": 5}', 400, id="variants"),
    pytest.param("post", f"{MANAGE}/flags", '{"key": "a", "variants": [{}]}', 400, id="no variant"),
    pytest.param(
        "post", f"{MANAGE}/flags", '{"key": "a", "prerequisites": [{"flag": "b"}]}', 400, id="needs"
    ),
    pytest.param("post", f"{MANAGE}/flags", '{"key": "a", "exclusion": "g"}', 400, id="no group"),
    pytest.param("post", f"{MANAGE}/flags", '{"key": "weilidai"}', 400, id="taken"),
    pytest.param("post", f"{MANAGE}/rollouts", '{"flag": "\\u0000"}', 400, id="NUL as a flag"),
    pytest.param("post", f"{MANAGE}/rollouts", "[]", 400, id="a list as a rollout"),
    pytest.param("post", f"{MANAGE}/stages", '{"rollout": 1e99}', 400, id="huge rollout"),
    pytest.param("post", f"{MANAGE}/stages", '{"rollout": "x", "order": 1}', 400, id="no rollout"),
    pytest.param("post", f"{MANAGE}/guards", '{"stage": 1, "metric": "m"}', 400, id="no metric"),
    pytest.param("post", f"{MANAGE}/gates", '{"flag": {}, "key": []}', 400, id="objects as text"),
    pytest.param("post", f"{MANAGE}/cohorts", '{"key": "a", "rule": []}', 400, id="no rule"),
    pytest.param(
        "post", f"{MANAGE}/cohorts", '{"key": "a", "rule": {"cohort": "a"}}', 400, id="circle"
    ),
    pytest.param("post", f"{MANAGE}/cohorts", '{"key": "a", "include": [1]}', 400, id="include"),
    pytest.param("post", f"{MANAGE}/metrics", '{"key": "m", "kind": "odd"}', 400, id="metric kind"),
    pytest.param("post", f"{MANAGE}/metrics", '{"key": "m", "kind": "latency"}', 400, id="edges"),
    pytest.param(
        "post",
        f"{MANAGE}/metrics",
        '{"key": "m", "kind": "binary", "lag": "P99999999999D"}',
        400,
        id="endless lag",
    ),
    pytest.param("post", f"{MANAGE}/keys", '{"kind": "root", "name": "x"}', 400, id="key kind"),
    pytest.param("post", f"{MANAGE}/flags/weilidai/kill", "{}", 400, id="no reason"),
    pytest.param("post", f"{MANAGE}/flags/weilidai/kill", '{"reason": 5}', 400, id="odd reason"),
    pytest.param("post", f"{MANAGE}/flags/weilidai/kill", "[]", 400, id="a list as a reason"),
    pytest.param(
        "post", f"{MANAGE}/flags/weilidai/kill", '{"reason": "a\\u0000"}', 400, id="NUL reason"
    ),
    pytest.param("post", f"{MANAGE}/flags/weilidai/resume", '{"reason": "x"}', 202, id="request"),
    pytest.param(
        "put",
        f"{MANAGE}/region-policies/r",
        '{"key": "r", "default": "x", "classes": {}, "regions": {}}',
        400,
        id="no class",
    ),
    pytest.param(
        "put",
        f"{MANAGE}/region-policies/r",
        '{"key": "r", "default": "a", "classes": {"a": {"ceiling_ppm": "much"}}, "regions": {}}',
        400,
        id="odd ceiling",
    ),
    pytest.param(
        "put",
        f"{MANAGE}/region-policies/r",
        '{"key": "r", "default": "a", "classes": {"a": {}}, "regions": {"深圳": "a"}}',
        400,
        id="a name as a region",
    ),
    pytest.param("delete", f"{MANAGE}/flags", "{}", 405, id="wrong method"),
    pytest.param("get", "/api/v1/nowhere", None, 404, id="nowhere"),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BAD)
def test_bad_input_is_answered_never_a_server_error(
    ann: Caller, method: str, path: str, body: str | None, status: int
):
    more = {} if body is None else {"data": body, "content_type": "application/json"}
    answer = getattr(ann, method)(path, **more)
    assert answer.status_code == status, answer.content[:300]
    if status >= 400:
        assert set(answer.json()["error"]) == {"code", "message", "path"}


LISTS = [
    "flags",
    "gates",
    "tiers",
    "region-policies",
    "cohorts",
    "lists",
    "compliance",
    "rollouts",
    "stages",
    "guards",
    "decisions",
    "changes",
    "metrics",
    "keys",
    "audit",
    "snapshots",
]


def test_lists_are_paged_searched_and_filtered(ann: Caller):
    for number in range(3):
        flags.create(PLACE, f"other-{number}", by=ANN)
    page = ann.get(f"{MANAGE}/flags?search=other&page_size=2").json()
    assert page["count"] == 3
    assert [each["key"] for each in page["results"]] == ["other-0", "other-1"]
    assert ann.get(f"{MANAGE}/flags?killed=true").json()["count"] == 0


@pytest.mark.parametrize("name", LISTS)
def test_every_list_answers(running: Rollout, ann: Caller, name: str):
    answer = ann.get(f"{MANAGE}/{name}")
    assert answer.status_code == 200
    assert {"count", "next", "previous", "results"} <= set(answer.json())


def test_the_audit_chain_is_verified_over_http(running: Rollout, ann: Caller):
    answer = ann.get(f"{MANAGE}/audit/verify").json()
    assert answer["whole"]
    assert answer["entries"] == AuditEntry.objects.count()


def test_health_tells_what_is_missing(flag: Flag, redis: Redis, client: Client):
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200
    redis.flushdb()
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"database": "ok", "redis": "ok", "snapshot": "LookupError"}


def test_figures_are_there_for_prometheus(flag: Flag, client: Client):
    text = client.get("/metrics").content.decode()
    assert "huidu_published_sequence 1.0" in text
    assert "huidu_database_up 1.0" in text


def test_the_schema_describes_every_address(flag: Flag, client: Client):
    answer = client.get("/api/schema/?format=json")
    assert answer.status_code == 200
    paths = answer.json()["paths"]
    assert f"{MANAGE}/flags/{{key}}/kill" in paths
    assert "/api/v1/flags/{key}/users/{user}/explanation" in paths
    assert client.get("/api/docs/").status_code == 200
