"""The published OpenAPI description, held against running servers by schemathesis.

Each operation is asked with generated input, good and bad. No answer is a 5xx; what the check
server answers has a status and a shape that the description allows; every fault of the platform
has its one shape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from huidu.wire.access import KeyKind
from rollout.api.check_routes import PATHS
from rollout.models import Flag
from rollout.services import keys
from tests.edge.running import SERVER, Running, Store, bearer
from tests.rollout.conftest import ANN, PLACE

# A case is a request: a few of each kind find what a change broke, many are for an evening
# (`bin/test -m slow tests/contract`).
FEW, MANY = 2, 60
QUIET = settings(
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PROMISES = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
# Revoking keys would end the run: the key that asks is among them.
LEFT_OUT = {"POST /api/v1/manage/keys/{id}/revoke"}


def description() -> dict[str, Any]:
    return SchemaGenerator().get_schema(request=None, public=True)


def operations(schema: Any) -> list[Any]:
    return [found.ok() for found in schema.get_all_operations()]


def each_case(operation: Any, ask: Any, count: int) -> None:
    """Ask one operation with good and with bad input."""
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        limited = settings(QUIET, max_examples=count)
        limited(given(case=operation.as_strategy(generation_mode=mode))(ask))()


@pytest.fixture(scope="module")
def edge() -> Iterator[Running]:
    store = Store()
    store.fill()
    running = Running(store)
    yield running
    running.stop()
    store.close()


@pytest.mark.parametrize("path", PATHS)
def test_the_check_server_answers_as_described(edge: Running, path: str):
    schema = schemathesis.openapi.from_dict(description())
    for operation in operations(schema.include(path=path)):

        def ask(case: Case) -> None:
            case.call_and_validate(
                base_url=f"http://127.0.0.1:{edge.port}",
                headers={"Authorization": bearer(SERVER)["Authorization"]},
                checks=PROMISES,
            )

        each_case(operation, ask, 20)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_no_request_of_the_description_breaks_the_platform(flag: Flag, count: int):
    token = keys.create(PLACE, KeyKind.ADMIN, "schemathesis", by=ANN)[1]
    schema = schemathesis.openapi.from_dict(description())
    schema.app = get_wsgi_application()
    statuses: Counter[int] = Counter()
    for operation in operations(schema):
        if operation.label in LEFT_OUT or operation.path in PATHS:
            continue

        def ask(case: Case) -> None:
            answer = case.call(headers={"Authorization": f"Bearer {token}"})
            statuses[answer.status_code] += 1
            assert answer.status_code < 500, (case.as_curl_command(), answer.text)
            if answer.status_code >= 400:
                assert set(answer.json()["error"]) == {"code", "message", "path"}

        each_case(operation, ask, count)
    assert statuses[200] > 20, statuses
    # Bad input is also a request without its key; most have it.
    assert statuses[400] + statuses[404] > statuses[401], statuses
