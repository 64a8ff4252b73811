"""The ingest API: every bad input a clear 4xx, nothing half applied."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from django.urls import resolve, reverse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.test import APIRequestFactory

from cohorts.api.views import PaymentsView, ProfilesView
from cohorts.models import PaymentEvent, Profile
from huidu.wire.access import KeyKind
from rollout.api.authentication import KeyUser
from rollout.api.check_routes import PATHS
from rollout.api.profiles import ProfileView
from rollout.models import ApiKey

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]

PAYMENT = {"event_id": "e1", "user_id": "u1", "paid_at": "2026-05-20T10:00:00+08:00"}
ASK = APIRequestFactory()


class Open(BaseAuthentication):
    """Keys are `rollout`'s; here only what lies behind them is asked."""

    def authenticate(self, request: Any) -> None:
        return None


class AdminKey(BaseAuthentication):
    """A key that may read everything."""

    def authenticate(self, request: Any) -> tuple[KeyUser, ApiKey]:
        key = ApiKey(name="a key", kind="admin", created_by="wang", environment="production")
        return KeyUser(key), key


def call(view: Any, body: Any, content_type: str = "application/json", **headers: str):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = ASK.generic("POST", "/", data, content_type=content_type, **headers)
    response = view.as_view(authentication_classes=[Open], permission_classes=[])(request)
    response.render()
    return response.status_code, json.loads(response.content)


def test_payments_are_counted_and_repeats_told():
    assert call(PaymentsView, {"payments": [PAYMENT]}) == (
        200,
        {"accepted": 1, "duplicates": 0, "rejected": []},
    )
    status, answer = call(PaymentsView, {"payments": [PAYMENT, {"user_id": "u1"}]})
    assert status == 200
    assert (answer["accepted"], answer["duplicates"]) == (0, 1)
    assert answer["rejected"] == [
        {"index": 1, "code": "event_id.missing", "detail": "expected a value, got none"}
    ]


def test_an_empty_list_is_no_fault():
    assert call(PaymentsView, {"payments": []})[1]["accepted"] == 0


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        pytest.param(b"", 400, "", id="empty"),
        pytest.param(b"{", 400, "", id="truncated"),
        pytest.param(b'{"payments":[{"event_id":"e1","user', 400, "", id="truncated inside"),
        pytest.param(b'{"payments":[{"a":"\xff"}]}', 400, "", id="invalid UTF-8"),
        pytest.param(b'{"payments":[{"a":"\\ud800"}]}', 400, "", id="lone surrogate"),
        pytest.param(b'{"payments":[{"amount_cny":NaN}]}', 400, "", id="NaN"),
        pytest.param(b'{"payments":' + b"[" * 100_000, 400, "", id="deep nesting"),
        pytest.param(b'{"payments":[{"x":' + b'{"a":' * 50_000, 400, "", id="deep inside"),
        pytest.param([PAYMENT], 400, "", id="a bare list"),
        pytest.param({"payments": {"0": PAYMENT}}, 400, "payments", id="object for list"),
        pytest.param({"payments": None}, 400, "payments", id="null"),
        pytest.param({}, 400, "", id="nothing"),
        pytest.param({"payments": [], "more": 1}, 400, "", id="unknown field of the whole"),
        pytest.param({"payments": [{}] * 6_000}, 413, "", id="6,000 items"),
        pytest.param(b'{"payments":["' + b"x" * 5_000_000 + b'"]}', 413, "", id="5 MB"),
    ],
)
def test_a_request_that_is_wrong_as_a_whole_is_refused_with_its_place(body, status, path):
    answered, answer = call(PaymentsView, body)
    assert answered == status
    assert answer["error"]["path"].startswith(path)
    assert answer["error"]["message"]
    assert not PaymentEvent.objects.exists()


@pytest.mark.parametrize(
    ("content_type", "headers"),
    [
        pytest.param("text/plain", {}, id="text"),
        pytest.param("application/x-www-form-urlencoded", {}, id="a form"),
        pytest.param("multipart/form-data; boundary=x", {}, id="an upload"),
        pytest.param("", {}, id="none"),
        pytest.param("application/json", {"HTTP_CONTENT_ENCODING": "gzip"}, id="gzip"),
    ],
)
def test_other_media_are_refused(content_type: str, headers: dict[str, str]):
    body = gzip.compress(json.dumps({"payments": [PAYMENT]}).encode())
    assert call(PaymentsView, body, content_type, **headers)[0] == 415


@pytest.mark.parametrize(
    "item",
    [
        {**PAYMENT, "user_id": "x" * 10_000},
        {**PAYMENT, "amount_cny": 1e308},
        {**PAYMENT, "amount_cny": {"a": [[[]]]}},
        {**PAYMENT, "paid_at": "9999-12-31T00:00:00Z"},
        {**PAYMENT, "event_id": "\0"},
        [PAYMENT],
        7,
    ],
)
def test_a_faulty_item_among_good_ones_is_listed(item: Any):
    status, answer = call(PaymentsView, {"payments": [PAYMENT, item]})
    assert (status, answer["accepted"]) == (200, 1)
    assert [each["index"] for each in answer["rejected"]] == [1]


def test_an_emoji_is_a_user_like_any_other():
    assert call(PaymentsView, {"payments": [{**PAYMENT, "user_id": "🦄"}]})[1]["accepted"] == 1
    assert Profile.objects.get().user_id == "🦄"


@pytest.mark.parametrize(
    ("fault", "path"),
    [
        ({"amount_cny": -1}, "payments[0].amount_cny"),
        ({"paid_at": "9999-01-01T00:00:00Z"}, "payments[0].paid_at"),
        ({"user_id": ""}, "payments[0].user_id"),
    ],
)
def test_a_request_without_one_good_item_is_refused_with_the_path(fault, path):
    status, answer = call(PaymentsView, {"payments": [PAYMENT | fault]})
    assert status == 400
    assert answer["error"]["path"] == path
    assert answer["accepted"] == 0
    assert len(answer["rejected"]) == 1


@pytest.mark.parametrize(
    ("item", "path"),
    [
        ({"user_id": "u1", "age": "old"}, "profiles[0].age"),
        ({"user_id": "u1", "colour": 1}, "profiles[0]"),
        ({"age": 1}, "profiles[0].user_id"),
    ],
)
def test_the_path_of_a_faulty_profile_names_its_attribute(item, path):
    status, answer = call(ProfilesView, {"profiles": [item]})
    assert (status, answer["error"]["path"]) == (400, path)


def test_profiles_come_in_and_can_be_read():
    status, answer = call(
        ProfilesView, {"profiles": [{"user_id": "a/b", "age": 30}, {"user_id": "u2", "x": 1}]}
    )
    assert status == 200
    assert answer["accepted"] == 1
    assert answer["rejected"][0]["code"] == "attribute.unknown"
    assert read("a/b")[1]["attributes"] == {"age": 30, "weekly_payments": 0, "monthly_payments": 0}


def read(user_id: str, **query: str) -> tuple[int, dict[str, Any]]:
    view = ProfileView.as_view(authentication_classes=[AdminKey], permission_classes=[])
    response = view(ASK.get("/", query), user_id=user_id)
    response.render()
    return response.status_code, json.loads(response.content)


@pytest.mark.parametrize(
    "at", ["yesterday", "2026-05-20T10:00:00", "9999-01-01T00:00:00Z", "", "\0"]
)
def test_an_odd_moment_is_refused(at: str):
    status, answer = read("u1", at=at)
    assert (status, answer["error"]["path"]) == (400, "at")


def test_a_user_nobody_knows_is_not_found():
    assert read("u1")[0] == 404
    assert read("a\0b")[0] == 400


@pytest.mark.parametrize("profiles", [{"profiles": [1]}, {"profiles": [[]]}, {"profiles": "u1"}])
def test_profiles_that_are_no_objects_are_refused(profiles: Any):
    assert call(ProfilesView, profiles)[0] == 400
    assert not Profile.objects.exists()


def test_the_addresses_are_the_documented_ones():
    found = {
        name: reverse(name, "cohorts.api.urls") for name in ("ingest-payments", "ingest-profiles")
    }
    assert found == {
        "ingest-payments": "/api/v1/payments",
        "ingest-profiles": "/api/v1/profiles",
    }
    assert resolve("/api/v1/profiles/a/b c", "rollout.api.urls").kwargs == {"user_id": "a/b c"}


def test_only_keys_of_the_right_kind_may_ask():
    assert PaymentsView.required_kind == ProfilesView.required_kind == KeyKind.INGEST
    assert ProfileView.required_kind == KeyKind.ADMIN


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"9" * 100_000, id="100,000 digits"),
        pytest.param(b"1e99999", id="far beyond a float"),
        pytest.param(b"[" * 300 + b"]" * 300, id="300 levels"),
        pytest.param(b'{"a":' * 300 + b"1" + b"}" * 300, id="300 objects"),
        pytest.param(b'"' + b"x" * 1_000_000 + b'"', id="a long text"),
        pytest.param(b"-0.0", id="minus zero"),
    ],
)
def test_monstrous_values_are_a_fault_of_their_item_or_of_the_request(value: bytes):
    body = b'{"profiles":[{"user_id":"u1","region":' + value + b'},{"user_id":"u2"}]}'
    status, answer = call(ProfilesView, body)
    assert (status == 200 and answer["accepted"] == 1) or status == 400
    body = (
        b'{"payments":[{"event_id":"e","user_id":"u","paid_at":"2026-05-20T10:00:00Z","amount_cny":'
    )
    status, answer = call(PaymentsView, body + value + b"}]}")
    assert status in (200, 400)
    assert Profile.objects.filter(region__isnull=False).count() == 0


def test_the_description_of_the_api_is_valid_openapi():
    schema = SchemaGenerator(urlconf="cohorts.api.urls").get_schema(request=None, public=True)
    validate_schema(schema)
    assert schema["paths"].keys() - PATHS == {
        "/api/v1/payments",
        "/api/v1/profiles",
    }
    assert {"200", "400", "401", "403", "413", "415"} <= set(
        schema["paths"]["/api/v1/payments"]["post"]["responses"]
    )
