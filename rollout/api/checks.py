"""Visibility and its explanation, answered by Django.

`edge` answers visibility in front of Django from memory; this is the same answer from the same
parts for deployments that run Django alone. The explanation is always answered here.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from django.http import Http404, HttpResponse
from django.utils import timezone
from django.utils.translation import get_language_from_request
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cohorts import selectors as who
from huidu import model, reasons
from huidu.errors import InputError
from huidu.wire import ofrep, visibility
from huidu.wire.access import KeyKind
from rollout.api.authentication import (
    ApiKeyAuthentication,
    StaffSession,
    actor_of,
    environment_of,
)
from rollout.explanations import AUDIENCES
from rollout.mappers import iso
from rollout.models import ApiKey
from rollout.services import places_told, reading, receipts, replay_receipts, voices
from rollout.services.answering import (
    Standing,
    compiled_snapshot,
    past_moment,
    snapshot_in_force,
    standing,
    words_at,
)
from rollout.services.reading import RISK_PERMISSION
from rollout.services.since import changed

AT: Final = OpenApiParameter("at", datetime, description="Answer as of this past moment.")
SINCE: Final = OpenApiParameter(
    "since", datetime, description="Tell what changed since; left out for customers."
)
REASON: Final = OpenApiParameter(
    "reason", str, description="Why the risk voice is read; needed for it, and kept in the audit."
)


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
        known = standing(environment, key)
        compiled, version = compiled_snapshot(environment, known.snapshot)
        flag = compiled.flags.get(key)
        asked_by_client = isinstance(request.auth, ApiKey) and request.auth.kind == KeyKind.CLIENT
        if flag is None or (asked_by_client and not flag.client_visible):
            body = visibility.error(reasons.FLAG_UNKNOWN, f"no flag {key[:100]!r} is published")
            return HttpResponse(body, content_type="application/json", status=404)
        answer = compiled.check(key, _held(user, None, known))
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
            SINCE,
            REASON,
            OpenApiParameter("audience", str, enum=list(AUDIENCES), default="support"),
        ],
        responses=dict,
    )
    def get(self, request: Request, key: str, user: str) -> Response:
        _usable_key(user)
        audience, environment = _audience(request), environment_of(request)
        if audience == "risk":
            _note_reader(request, environment, key, user)
        at = past_moment(request.query_params.get("at"), "at")
        since = past_moment(request.query_params.get("since"), "since")
        known = standing(environment, key)
        published = known.snapshot if at is None else snapshot_in_force(environment, at)
        compiled, version = compiled_snapshot(environment, published)
        now = at or timezone.now()
        held, language = _held(user, at, known), language_of(request)
        found = places_told.settled(compiled.explain(key, held), known, at=at)
        words = known.words if at is None else words_at(environment, key, at)
        told = voices.voice(
            compiled, found, held, audience=audience, language=language, words=words, at=now
        )
        if since is not None and audience != "customer":
            told["changed"] = changed(
                environment,
                key,
                since,
                now,
                compiled=compiled,
                user=held,
                secret=words.secret if audience == "support" else frozenset(),
            )
        told |= {"snapshot": version, "sequence": found.sequence, "as_of": iso(now)}
        return Response(told, headers={"Vary": "Accept-Language, Authorization"})


class DecisionView(_CheckView):
    """An answer that was given, by its decision id: its receipt, replay and explanation."""

    @extend_schema(
        parameters=[
            REASON,
            OpenApiParameter("audience", str, enum=list(AUDIENCES), default="support"),
        ],
        responses=dict,
    )
    def get(self, request: Request, decision: str) -> Response:
        audience, environment = _audience(request), environment_of(request)
        receipt = receipts.find(environment, decision)
        if receipt is None:
            raise Http404
        if audience == "risk":
            _note_reader(request, environment, receipt.flag, receipt.user)
        compiled, version, found, user = replay_receipts.explain_again(receipt)
        at = datetime.fromtimestamp(receipt.at_ms / 1000, UTC)
        told = voices.voice(
            compiled,
            found,
            user,
            audience=audience,
            language=language_of(request),
            words=words_at(environment, receipt.flag, at),
            at=at,
        )
        told |= {"decision_id": receipt.decision, "snapshot": version}
        told |= {"sequence": receipt.sequence, "as_of": iso(at)}
        if audience != "customer":
            differ = replay_receipts.differences(receipt)
            told |= {"code": receipt.code, "replay_agrees": not differ}
        return Response(told, headers={"Vary": "Accept-Language, Authorization"})


def _audience(request: Request) -> str:
    audience = request.query_params.get("audience", "support")
    if audience not in AUDIENCES:
        raise InputError(
            f"expected one of {', '.join(AUDIENCES)}, got {audience[:60]!r}", path="audience"
        )
    return audience


def _note_reader(request: Request, environment: str, flag_key: str, user: str) -> None:
    """Only who may read the risk voice goes on, and the audit log says who did and why.

    Raises:
        PermissionDenied: the key or the person may not.
        InputError: no reason is given.
    """
    if isinstance(request.auth, ApiKey):
        if request.auth.kind != KeyKind.ADMIN:
            raise PermissionDenied("the risk voice needs an admin key")
    elif not request.user.has_perm(RISK_PERMISSION):
        raise PermissionDenied("the risk voice needs the right to change gates")
    reading.note(
        actor_of(request),
        environment,
        flag_key,
        user,
        reason=request.query_params.get("reason", ""),
    )


def language_of(request: Request) -> str:
    """``zh`` or ``en``: what Accept-Language prefers, else the deployment's."""
    return "zh" if get_language_from_request(request).startswith("zh") else "en"


def _held(user: str, at: datetime | None, known: Standing) -> model.User:
    """What is held about a user: now, the same facts as in the packed profile; or at a moment."""
    if at is not None:
        return who.held_user(user, at)
    found = who.held_users([user], registry=known.registry)
    return found.get(user) or model.User(user, {})


def _usable_key(user: str) -> None:
    fault = ofrep.key_fault(user)
    if fault:
        raise InputError(fault, path="user")
