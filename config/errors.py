"""One JSON shape for every API error: ``{"error": {"code", "message", "path"}}``."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.response import Response
from rest_framework.views import set_rollback

from huidu.errors import HuiduError, StateError


def body(code: str, message: str, path: str = "") -> dict[str, Any]:
    """The error as every API answers it; `path` is the JSON path of the fault, or empty."""
    return {"error": {"code": code, "message": message, "path": path}}


def exception_handler(exception: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook: known errors become clear answers, anything else stays a 500 and is logged."""
    set_rollback()
    if isinstance(exception, HuiduError):
        status = 409 if isinstance(exception, StateError) else 400
        return Response(body(exception.code, exception.message, exception.path), status=status)
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
            body(code, str(exception.detail)), status=exception.status_code, headers=headers
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
