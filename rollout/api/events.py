"""``POST /api/v1/events``: up to 5,000 exposures and outcomes, kept before the answer."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cohorts.services.items import Rejected
from config.errors import body as error_body
from config.errors import ingested
from huidu.errors import InputError
from huidu.wire.access import KeyKind
from rollout.api.authentication import environment_of
from rollout.models import ApiKey
from rollout.services import events


def only_exposures(request: Request) -> bool:
    """Whether the asking key is one that may tell of exposures and nothing else."""
    return isinstance(request.auth, ApiKey) and request.auth.kind == KeyKind.SERVER


def is_exposure(item: events.Event | Rejected) -> bool:
    """Whether an item tells of an exposure; what was rejected already tells of nothing."""
    return isinstance(item, Rejected) or item.type == "exposure"


class EventsView(APIView):
    """Exposures (`flag`, `user_id`) and outcomes (`metric`, `user_id`, `value`), each with
    `event_id`, `type` and `at`. A repeated `event_id` is a duplicate and never counted twice.

    Server keys may send exposures, because SDKs do; what happened to users is for ingest keys."""

    required_kind: ClassVar[Any] = (KeyKind.INGEST, KeyKind.SERVER)

    @extend_schema(
        request=OpenApiTypes.OBJECT,
        responses={
            200: OpenApiTypes.OBJECT,
            400: OpenApiTypes.OBJECT,
            413: OpenApiTypes.OBJECT,
        },
    )
    def post(self, request: Request) -> Response:
        plain: HttpRequest = request._request
        try:
            items = events.read(plain.body)
        except RequestDataTooBig:
            return Response(
                error_body("input.too_large", "expected at most 4 MB and 5,000 events"), status=413
            )
        except InputError as error:
            status = 413 if error.code == "input.too_large" else 400
            return Response(error_body(error.code, error.message, error.path), status=status)
        if only_exposures(request) and any(not is_exposure(item) for item in items):
            raise PermissionDenied("a server key may only send exposures")
        result = events.ingest(environment_of(request), items, now=timezone.now())
        return ingested(result, "events")
