"""What the check server answers, and how it refuses."""

from __future__ import annotations

import json
import re

import pytest

from huidu import reasons
from tests.edge.running import ADMIN, CLIENT, INGEST, SERVER, Running, Store, bearer

SINGLE = "/ofrep/v1/evaluate/flags/weilidai"
BULK = "/ofrep/v1/evaluate/flags"


def test_a_user_who_passes_every_gate_is_shown_the_flag(edge: Running) -> None:
    answer = edge.check("weilidai", "ada")
    assert answer.status == 200
    assert answer.json["key"] == "weilidai"
    assert answer.json["value"] is True
    assert answer.json["variant"] == "on"
    assert answer.json["metadata"]["why"] == reasons.SHOWN
    assert answer.json["metadata"]["stage"] == "all"
    assert answer.json["metadata"]["flagVersion"] == 7
    assert answer.json["metadata"]["decisionId"]


def test_held_facts_come_from_the_packed_profile(edge: Running) -> None:
    answer = edge.check("weilidai", "eve")
    assert (answer.json["value"], answer.json["metadata"]["why"]) == (False, "fraud.risk")


def test_a_region_puts_its_cap_into_the_metadata(edge: Running) -> None:
    assert edge.check("weilidai", "bob").json["metadata"]["single_loan_cap_cny"] == 5000


def test_nobody_we_know_is_hidden_for_want_of_data(edge: Running) -> None:
    answer = edge.check("weilidai", "stranger")
    assert (answer.json["value"], answer.json["metadata"]["why"]) == (False, reasons.DATA_MISSING)


def test_the_visibility_answer_has_exactly_its_fields(edge: Running, store: Store) -> None:
    answer = edge.see("weilidai", "bob")
    assert answer.status == 200
    assert set(answer.json) == {
        "flag", "user", "visible", "variant", "reason", "why", "stage", "payload",
        "decision_id", "snapshot", "evaluated_at",
    }  # fmt: skip
    assert answer.json["flag"] == "weilidai"
    assert answer.json["user"] == "bob"
    assert answer.json["visible"] is True
    assert answer.json["payload"] == {"single_loan_cap_cny": 5000}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer.json["evaluated_at"])


def test_decision_ids_sort_by_time_and_never_repeat(edge: Running) -> None:
    ids = [edge.see("weilidai", "ada").json["decision_id"] for _ in range(20)]
    assert ids == sorted(set(ids))


def test_a_user_id_may_be_any_text(edge: Running) -> None:
    answer = edge.see("rate", "%F0%9F%98%80%2Fa%20b")
    assert (answer.status, answer.json["user"]) == (200, "😀/a b")


def test_a_float_is_written_with_a_decimal_point(edge: Running) -> None:
    assert b'"value":4.0' in edge.check("rate", "ada").body


def test_head_answers_like_get_without_the_body(edge: Running) -> None:
    answer = edge.ask("HEAD", "/api/v1/flags/weilidai/users/ada", headers=bearer(SERVER))
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 100


def test_the_explanation_is_not_ours(edge: Running) -> None:
    path = "/api/v1/flags/weilidai/users/ada/explanation"
    answer = edge.ask("GET", path, headers=bearer(SERVER))
    assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")


DEEP = b'{"context":{"targetingKey":"u","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
LONG = "x" * 10_000


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(b"", 400, "PARSE_ERROR", id="no body"),
        pytest.param(b'{"context":', 400, "PARSE_ERROR", id="cut off"),
        pytest.param(b"\xff\xfe", 400, "PARSE_ERROR", id="not UTF-8"),
        pytest.param(DEEP, 400, "PARSE_ERROR", id="nested deeply"),
        pytest.param(b"[]", 400, "INVALID_CONTEXT", id="a list"),
        pytest.param(b"{}", 400, "INVALID_CONTEXT", id="no context"),
        pytest.param(b'{"context":null}', 400, "INVALID_CONTEXT", id="null context"),
        pytest.param(b'{"context":"u"}', 400, "INVALID_CONTEXT", id="context is text"),
        pytest.param(b'{"context":{}}', 400, "TARGETING_KEY_MISSING", id="nobody"),
        pytest.param(b'{"context":{"targetingKey":""}}', 400, "TARGETING_KEY_MISSING", id="empty"),
        pytest.param(b'{"context":{"targetingKey":5}}', 400, "INVALID_CONTEXT", id="number"),
        pytest.param(b'{"context":{"targetingKey":"a\\u0000b"}}', 400, "INVALID_CONTEXT", id="NUL"),
        pytest.param(
            json.dumps({"context": {"targetingKey": LONG}}).encode(),
            400,
            "INVALID_CONTEXT",
            id="long",
        ),
        pytest.param(
            b'{"context":{"targetingKey":"ada","region":440300}}',
            400,
            "INVALID_CONTEXT",
            id="region",
        ),
        pytest.param(b" " * (1024 * 1024 + 1), 413, "GENERAL", id="too large"),
    ],
)
def test_bad_bodies_are_refused_with_a_code(
    edge: Running, body: bytes, status: int, code: str
) -> None:
    for path in (SINGLE, BULK):
        answer = edge.ask("POST", path, body, bearer(SERVER))
        assert (answer.status, answer.json["errorCode"]) == (status, code)
        assert answer.json["errorDetails"]
        assert answer.json.get("key") == ("weilidai" if path is SINGLE else None)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        pytest.param("/api/v1/flags/nope/users/u", 404, "flag.unknown", id="unknown flag"),
        pytest.param("/api/v1/flags//users/u", 404, "flag.unknown", id="empty flag"),
        pytest.param("/api/v1/flags/weilidai/users/", 400, "input.invalid", id="empty user"),
        pytest.param("/api/v1/flags/weilidai/users/a%00b", 400, "input.invalid", id="NUL"),
        pytest.param("/api/v1/flags/weil%00/users/a", 400, "input.invalid", id="NUL in flag"),
        pytest.param("/api/v1/flags/weilidai/users/%FF", 400, "input.invalid", id="not UTF-8"),
        pytest.param(f"/api/v1/flags/weilidai/users/{LONG}", 400, "input.invalid", id="long"),
        pytest.param(
            f"/api/v1/flags/weilidai/users/{'%F0%9F%98%80' * 10_000}",
            400,
            "input.invalid",
            id="emoji",
        ),
    ],
)
def test_bad_paths_are_refused_with_a_code(
    edge: Running, path: str, status: int, code: str
) -> None:
    answer = edge.ask("GET", path, headers=bearer(SERVER))
    assert (answer.status, answer.json["error"]["code"]) == (status, code)


def test_a_wrong_type_is_named_with_its_path(edge: Running) -> None:
    details = edge.check("weilidai", "ada", region="Shenzhen").json["errorDetails"]
    assert details == (
        "context.region: expected a region code of six digits such as 440300, got 'Shenzhen'"
    )


def test_unregistered_context_is_passed_over(edge: Running) -> None:
    answer = edge.check("weilidai", "ada", email="a@example.com", nested={"x": [1]}, staff="odd")
    assert answer.json["value"] is True


def test_an_unknown_flag_is_not_found(edge: Running) -> None:
    answer = edge.check("nope", "ada")
    assert (answer.status, answer.json["errorCode"]) == (404, "FLAG_NOT_FOUND")
    assert answer.json["key"] == "nope"


@pytest.mark.parametrize("path", [SINGLE, BULK, "/events/v1/stream"])
@pytest.mark.parametrize("key", ["", "hd_server_stranger", "\u00e9"])
def test_who_has_no_live_key_gets_401(edge: Running, path: str, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}".strip()} if key else {}
    method = "GET" if path.startswith("/events") else "POST"
    body = b'{"context":{"targetingKey":"u"}}' if method == "POST" else None
    answer = edge.ask(method, path, body, headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_may_come_in_a_header_of_its_own(edge: Running) -> None:
    body = b'{"context":{"targetingKey":"ada"}}'
    assert edge.ask("POST", SINGLE, body, {"X-API-Key": SERVER}).json["value"] is True


def test_an_ingest_key_may_not_ask(edge: Running) -> None:
    assert edge.check("weilidai", "ada", key=INGEST).status == 403


def test_an_admin_key_may_ask_like_a_server(edge: Running) -> None:
    assert edge.check("weilidai", "bob", key=ADMIN, region="650100").json["value"] is False


def test_a_server_key_may_complete_what_either_side_knows(edge: Running) -> None:
    closed = edge.check("weilidai", "ada", region="650100")
    assert closed.json["metadata"]["why"] == reasons.REGION_CLOSED


def test_a_client_key_may_not_assert_held_facts(edge: Running) -> None:
    asserted = {"staff": True, "risk_score": 1, "region": "440300"}
    assert edge.check("weilidai", "eve", key=CLIENT, **asserted).json["value"] is False
    assert edge.check("weilidai", "stranger", key=CLIENT, **asserted).json["value"] is False
    # And a region it claims does not lift a cap.
    answer = edge.check("weilidai", "bob", key=CLIENT, region="440300")
    assert answer.json["metadata"]["single_loan_cap_cny"] == 5000


def test_a_client_key_may_say_what_only_the_caller_knows(edge: Running) -> None:
    assert edge.check("new-app", "ada", key=CLIENT, app_version="8.0.1").json["value"] is True
    assert edge.check("new-app", "ada", key=CLIENT, app_version="7.9").json["value"] is False


def test_a_client_key_sees_only_flags_made_for_clients(edge: Running) -> None:
    assert edge.check("staff-only", "ada", key=SERVER).json["value"] is True
    assert edge.check("staff-only", "ada", key=CLIENT).status == 404
    keys = [flag["key"] for flag in edge.bulk("ada", key=CLIENT).json["flags"]]
    assert "weilidai" in keys
    assert "staff-only" not in keys


def test_bulk_agrees_with_single_answers(edge: Running) -> None:
    for item in edge.bulk("bob").json["flags"]:
        single = edge.check(item["key"], "bob").json
        assert [item[name] for name in ("value", "variant", "reason")] == [
            single[name] for name in ("value", "variant", "reason")
        ]
        assert item["metadata"]["why"] == single["metadata"]["why"]


def test_bulk_is_not_sent_twice_to_who_has_it(edge: Running) -> None:
    first = edge.bulk("ada")
    assert re.fullmatch(r'"[0-9a-f]{32}"', first.headers["etag"])
    again = edge.bulk("ada", If_None_Match=f'"other", {first.headers["etag"]}')
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert edge.bulk("eve", If_None_Match=first.headers["etag"]).status == 200


def test_web_pages_of_any_origin_may_ask(edge: Running) -> None:
    asked = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,if-none-match",
    }
    for path in (SINGLE, BULK):
        preflight = edge.ask("OPTIONS", path, headers=asked)
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert preflight.headers["access-control-allow-methods"] == "POST, OPTIONS"
        allowed = preflight.headers["access-control-allow-headers"].lower()
        assert {"authorization", "x-api-key", "content-type", "if-none-match"} <= set(
            re.split(", *", allowed)
        )
    for answer in (edge.bulk("ada"), edge.check("weilidai", "ada"), edge.check("nope", "ada")):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "ETag" in answer.headers["access-control-expose-headers"]


def test_other_methods_are_told_which_are_right(edge: Running) -> None:
    answer = edge.ask("GET", SINGLE, headers=bearer(SERVER))
    assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS")


def test_health_and_metrics_tell_how_it_is(edge: Running, store: Store) -> None:
    edge.check("weilidai", "ada")
    assert edge.ask("GET", "/health/live").status == 200
    ready = edge.ask("GET", "/health/ready").json
    assert (ready["ready"], ready["profiles_readable"]) == (True, True)
    assert ready["sequence"] == store.sequence
    metrics = edge.ask("GET", "/metrics").body.decode()
    found = re.search(r'huidu_checks_total\{flag="weilidai",result="shown"\} (\d+)', metrics)
    assert found
    assert int(found[1]) >= 1
