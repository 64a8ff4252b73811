"""What the platform holds about one user, now or at a past moment."""

from __future__ import annotations

import datetime

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cohorts import selectors
from cohorts.api import schema
from cohorts.services import items
from huidu.errors import InputError
from huidu.wire.access import KeyKind
from rollout.api.authentication import (
    ApiKeyAuthentication,
    StaffSession,
    actor_of,
    environment_of,
)
from rollout.models import ApiKey
from rollout.services import protected


class ProfileView(APIView):
    authentication_classes = [ApiKeyAuthentication, StaffSession]
    required_kind = KeyKind.ADMIN

    @extend_schema(
        operation_id="profile",
        parameters=[
            OpenApiParameter(
                "at", datetime.datetime, description="A past moment, ISO 8601 with its offset."
            ),
            OpenApiParameter(
                "reason",
                str,
                description="Why protected values are read; kept in the audit log. People who are "
                "logged in get none without it.",
            ),
        ],
        responses={
            200: schema.PROFILE,
            404: OpenApiResponse(description="Nothing is held about the user at that moment."),
            **schema.ERRORS,
        },
        tags=["profiles"],
    )
    def get(self, request: Request, user_id: str) -> Response:
        """What the platform holds about a user, now or at a past moment.

        Whoever reads protected values is noted in the audit log.
        """
        person = not isinstance(request.auth, ApiKey)
        if person and not request.user.has_perm("cohorts.view_profile"):
            raise PermissionDenied("this needs the right to see profiles")
        at = _moment(request.query_params.get("at"))
        if sentence := items.id_fault(user_id):
            raise InputError(sentence, path="user_id")
        found = selectors.profile_at(user_id, at)
        if found is None:
            raise NotFound("nothing is held about this user at that moment")
        reason = request.query_params.get("reason", "").strip()
        guarded = {n: a for n, a in protected.protected().items() if n in found.attributes}
        open_to = set(guarded)
        if person:
            open_to = protected.readable(request.user, guarded.values()) if reason else set()
        if open_to:
            protected.note(
                actor_of(request),
                user_id,
                open_to,
                environment=environment_of(request),
                reason=reason,
            )
        masked = guarded.keys() - open_to
        shown = {name: fact for name, fact in found.attributes.items() if name not in masked}
        return Response(
            {
                "user_id": found.user_id,
                "attributes": shown,
                "as_of": found.as_of.isoformat(),
                "masked": sorted(masked),
                "no_longer_held": sorted(found.no_longer_held),
            }
        )


def _moment(text: str | None) -> datetime.datetime:
    """The moment asked for, now by default; not in the future, which nobody knows."""
    now = timezone.now()
    if text is None:
        return now
    try:
        # A plus sign that nobody escaped arrives as a space.
        at = parse_datetime(text.strip().replace(" ", "+"))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or not 1970 <= at.year <= now.year + 1:
        raise InputError(
            f"expected a moment such as 2026-01-31T12:00:00+08:00, got {text[:64]!r}", path="at"
        )
    return min(at, now)
