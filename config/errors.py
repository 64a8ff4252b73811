"""One JSON shape for every API error: ``{"error": {"code", "message", "path"}}``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from django.db import DataError, IntegrityError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.response import Response
from rest_framework.views import set_rollback

from huidu.errors import HuiduError, StateError


def body(code: str, message: str, path: str = "") -> dict[str, Any]:
    """The error as every API answers it; `path` is the JSON path of the fault, or empty."""
    return {"error": {"code": code, "message": message, "path": path}}


class Rejected(Protocol):
    """An item that an ingest did not take: its place in the list, a code, a sentence."""

    @property
    def index(self) -> int: ...

    @property
    def code(self) -> str: ...

    @property
    def detail(self) -> str: ...


class Ingested(Protocol):
    """What became of a list of items."""

    @property
    def accepted(self) -> int: ...

    @property
    def duplicates(self) -> int: ...

    @property
    def rejected(self) -> Sequence[Rejected]: ...


def ingested(result: Ingested, items: str) -> Response:
    """The answer to an ingest: 200, or 400 when not one item was good.

    A caller who sends one bad item must not read success; one who sends thousands gets the good
    ones counted and the others listed. The body is the same in both cases, with the first fault as
    `error` beside it in the second.

    Args:
        items: the list's name in the request, such as ``payments``.
    """
    told: dict[str, Any] = msgspec.to_builtins(result)
    if result.accepted or result.duplicates or not result.rejected:
        return Response(told)
    first = result.rejected[0]
    path = f"{items}[{first.index}]{_field_of(first)}"
    return Response(body(first.code, first.detail, path) | told, status=400)


def _field_of(fault: Rejected) -> str:
    """``.paid_at`` for ``paid_at.future``; nothing where the code names no field of the item."""
    field, _, _ = fault.code.rpartition(".")
    if field == "attribute":  # the sentence names it: ``age: expected ...``
        field, told, _ = fault.detail.partition(": ")
        return f".{field}" if told and field.isidentifier() else ""
    return f".{field}" if field not in ("", "item", "field") else ""


def exception_handler(exception: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook: known errors become clear answers, anything else stays a 500 and is logged."""
    set_rollback()
    if isinstance(exception, HuiduError):
        status = 409 if isinstance(exception, StateError) else 400
        return Response(body(exception.code, exception.message, exception.path), status=status)
    if isinstance(exception, RecursionError):
        return Response(body("input.invalid", "nested deeper than can be read"), status=400)
    if isinstance(exception, DataError):
        # NUL bytes, numbers out of range: whatever the database cannot hold is the caller's fault.
        return Response(body("input.invalid", "expected values the database can hold"), status=400)
    if isinstance(exception, IntegrityError):
        return Response(body("state.conflict", "another change was faster"), status=409)
    if isinstance(exception, OperationalError):
        return Response(
            body("unavailable", "the database does not answer; try again"),
            status=503,
            headers={"Retry-After": "1"},
        )
    if isinstance(exception, Http404):
        return Response(body("not_found", "nothing at this address"), status=404)
    if isinstance(exception, ValidationError):
        path, message = _first_fault(exception.detail)
        return Response(body("input.invalid", message, path), status=400)
    if isinstance(exception, APIException):
        headers = {"WWW-Authenticate": "Bearer"} if exception.status_code == 401 else {}
        if wait := getattr(exception, "wait", None):
            headers["Retry-After"] = str(int(wait))
        code = str(exception.default_code)
        return Response(
            body(code, str(exception.detail), getattr(exception, "path", "")),
            status=exception.status_code,
            headers=headers,
        )
    return None


def _first_fault(detail: Any, path: str = "") -> tuple[str, str]:
    """Where DRF's nested validation detail first complains, as a JSON path, and its sentence."""
    if isinstance(detail, dict):
        key, inner = next(iter(detail.items()))
        here = path if key == "non_field_errors" else f"{path}.{key}" if path else str(key)
        return _first_fault(inner, here)
    if isinstance(detail, list):
        for index, inner in enumerate(detail):
            if inner and isinstance(inner, (dict, list)):
                return _first_fault(inner, f"{path}[{index}]")
        return path, str(detail[0]) if detail else ""
    return path, str(detail)


def _plain(request: HttpRequest, code: str, message: str, status: int) -> HttpResponse | None:
    """The JSON answer for addresses of programs; None for pages that people see."""
    if not request.path.startswith(("/api/", "/ofrep/", "/health/", "/events/")):
        return None
    return JsonResponse(body(code, message), status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    plain = _plain(request, "input.invalid", "expected a request that can be read", 400)
    return plain or defaults.bad_request(request, exception)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    plain = _plain(request, "permission_denied", "this is not allowed", 403)
    return plain or defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    plain = _plain(request, "not_found", "nothing at this address", 404)
    return plain or defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    plain = _plain(request, "error", "something broke; it was logged", 500)
    return plain or defaults.server_error(request)
