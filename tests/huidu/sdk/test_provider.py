"""The OpenFeature provider: defaults on any error, types kept, metadata told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode

from huidu.sdk import Client
from huidu.sdk.provider import HuiduProvider
from huidu.wire import snapshot as wire
from tests.huidu.sdk.platform import Platform, snapshot
from tests.waiting import PATIENCE

SOMEBODY = EvaluationContext("u1", {"region": "440300"})


def _client(platform: Platform) -> Client:
    patience = {"timeout": PATIENCE, "start_seconds": PATIENCE}
    return Client(platform.url, "hd_server_test", stream=False, **patience)


@pytest.fixture
def flags() -> Iterator[OpenFeatureClient]:
    platform = Platform(wire.encode(snapshot(allow_list=frozenset({"u1"}))))
    api.set_provider_and_wait(HuiduProvider(_client(platform)))
    yield api.get_client()
    api.shutdown()
    platform.stop()


def test_values_come_back_in_their_type(flags):
    assert flags.get_boolean_value("weilidai", False, SOMEBODY) is True
    assert flags.get_string_value("words", "", SOMEBODY) == "你好"
    assert flags.get_integer_value("limit", 0, SOMEBODY) == 7
    assert flags.get_float_value("rate", 0.0, SOMEBODY) == 1.0


def test_details_carry_why_and_payload(flags):
    details = flags.get_boolean_details("weilidai", False, SOMEBODY)
    assert details.reason == "TARGETING_MATCH"
    assert details.variant == "on"
    assert details.flag_metadata["why"] == "allowed.list"
    assert details.flag_metadata["cap"] == 5000


@pytest.mark.parametrize(
    ("flag", "context", "code"),
    [
        ("nothing", SOMEBODY, ErrorCode.FLAG_NOT_FOUND),
        ("words", SOMEBODY, ErrorCode.TYPE_MISMATCH),
        ("limit", SOMEBODY, ErrorCode.TYPE_MISMATCH),
        ("weilidai", EvaluationContext(), ErrorCode.TARGETING_KEY_MISSING),
    ],
)
def test_every_error_gives_the_default_and_its_code(flags, flag, context, code):
    for default in (True, False):
        details = flags.get_boolean_details(flag, default, context)
        assert details.value is default
        assert details.error_code is code


async def test_the_asynchronous_interface_answers_alike(flags):
    assert await flags.get_boolean_value_async("weilidai", False, SOMEBODY) is True
