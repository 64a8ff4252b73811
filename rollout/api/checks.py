"""Visibility and its explanation, answered by Django.

`edge` answers visibility in front of Django from memory; this is the same answer from the same
parts for deployments that run Django alone. The explanation is always answered here.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from django.db.models import Q
from django.http import HttpResponse
from django.utils import timezone
from django.utils.translation import get_language_from_request
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cohorts import selectors as who
from cohorts.models import Attribute
from huidu import model, reasons
from huidu.engine import Compiled, compile_snapshot
from huidu.errors import InputError
from huidu.wire import ofrep, visibility
from huidu.wire import snapshot as wire
from huidu.wire.access import KeyKind
from rollout.api.authentication import (
    ApiKeyAuthentication,
    StaffSession,
    environment_of,
)
from rollout.explanations import AUDIENCES, Wording, tell
from rollout.mappers import iso
from rollout.models import ApiKey, Gate, Snapshot
from rollout.services.payloads import moment
from rollout.wording import Text

_KEPT: Final[dict[tuple[str, int], tuple[str, Compiled]]] = {}
_MOST_KEPT: Final = 8

AT: Final = OpenApiParameter("at", datetime, description="Answer as of this past moment.")


class _CheckView(APIView):
    authentication_classes = [ApiKeyAuthentication, StaffSession]
    required_kind: ClassVar[Any] = KeyKind.SERVER


class VisibilityView(_CheckView):
    """Whether one user sees one flag, and why."""

    required_kind: ClassVar[Any] = (KeyKind.SERVER, KeyKind.CLIENT)

    @extend_schema(responses=dict)
    def get(self, request: Request, key: str, user: str) -> HttpResponse:
        _usable_key(user)
        environment, now = environment_of(request), timezone.now()
        compiled, version = compiled_snapshot(environment, _row(environment, None))
        flag = compiled.flags.get(key)
        asked_by_client = isinstance(request.auth, ApiKey) and request.auth.kind == KeyKind.CLIENT
        if flag is None or (asked_by_client and not flag.client_visible):
            body = visibility.error(reasons.FLAG_UNKNOWN, f"no flag {key[:100]!r} is published")
            return HttpResponse(body, content_type="application/json", status=404)
        answer = compiled.check(key, _held(user, None))
        body = visibility.join(
            visibility.parts(answer, version),
            user,
            uuid.uuid4().hex.encode(),
            iso(now).encode(),
        )
        return HttpResponse(body, content_type="application/json")


class ExplanationView(_CheckView):
    """Every gate, what it needs and what it found, in the voice of the one who asks."""

    @extend_schema(
        parameters=[
            AT,
            OpenApiParameter("audience", str, enum=list(AUDIENCES), default="support"),
        ],
        responses=dict,
    )
    def get(self, request: Request, key: str, user: str) -> Response:
        _usable_key(user)
        audience = request.query_params.get("audience", "support")
        if audience not in AUDIENCES:
            raise InputError(
                f"expected one of {', '.join(AUDIENCES)}, got {audience[:60]!r}", path="audience"
            )
        key_row = request.auth
        if audience == "risk" and isinstance(key_row, ApiKey) and key_row.kind != KeyKind.ADMIN:
            raise PermissionDenied("the risk voice needs an admin key")
        at = _moment(request.query_params.get("at"))
        environment = environment_of(request)
        compiled, version = compiled_snapshot(environment, _row(environment, at))
        moment = at or timezone.now()
        found = compiled.explain(key, _held(user, at))
        told = tell(
            found,
            compiled.flags.get(key),
            audience=audience,
            language=language_of(request),
            words=words_for(environment, key),
        )
        told |= {"snapshot": version, "sequence": found.sequence, "as_of": iso(moment)}
        return Response(told, headers={"Vary": "Accept-Language, Authorization"})


def compiled_snapshot(environment: str, row: Snapshot | None) -> tuple[Compiled, str]:
    """A snapshot ready to answer, and its version; the last few are kept.

    Raises:
        InputError: nothing was published at that time.
    """
    if row is None:
        raise InputError(
            f"expected a time after the first publication of {environment}, got one before it",
            path="at",
            code="snapshot.none",
        )
    kept = _KEPT.get((environment, row.sequence))
    if kept is not None and kept[0] == row.version:
        return kept[1], row.version
    blob = bytes(Snapshot.objects.values_list("blob", flat=True).get(pk=row.pk))
    compiled = compile_snapshot(wire.decode(blob))
    if len(_KEPT) >= _MOST_KEPT:
        _KEPT.clear()
    _KEPT[environment, row.sequence] = (row.version, compiled)
    return compiled, row.version


def words_for(environment: str, flag_key: str) -> Wording:
    """Names and texts for one flag's explanation, as they are written now."""
    gates = Gate.objects.filter(flag__environment=environment, flag__key=_text(flag_key))
    attributes = list(Attribute.objects.all())
    return Wording(
        labels={each.name: Text(each.label_zh, each.label_en) for each in attributes},
        secret=frozenset(
            each.name for each in attributes if each.sensitivity == Attribute.Sensitivity.RISK
        ),
        gates={each.key: each for each in gates},
    )


def language_of(request: Request) -> str:
    """``zh`` or ``en``: what Accept-Language prefers, else the deployment's."""
    return "zh" if get_language_from_request(request).startswith("zh") else "en"


def _row(environment: str, at: datetime | None) -> Snapshot | None:
    rows = Snapshot.objects.filter(environment=environment).defer("blob")
    return rows.filter(Q() if at is None else Q(published_at__lte=at)).order_by("-sequence").first()


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    at = moment(text.replace(" ", "+"), "at")  # "+" in a query arrives as a blank
    if at is not None and at > timezone.now() + timedelta(seconds=1):
        raise InputError("expected a past moment, got one to come", path="at")
    return at


def _held(user: str, at: datetime | None) -> model.User:
    """What is held about a user: now, the same facts as in the packed profile; or at a moment."""
    if at is not None:
        return who.held_user(user, at)
    return who.held_users([user]).get(user) or model.User(user, {})


def _usable_key(user: str) -> None:
    fault = ofrep.key_fault(user)
    if fault:
        raise InputError(fault, path="user")


def _text(text: str) -> str:
    return text.replace("\0", "")[:200]
