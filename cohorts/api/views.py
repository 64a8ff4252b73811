"""Ingest over HTTP: reads the request, calls one service, writes the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.core.exceptions import RequestDataTooBig
from django.http.request import RawPostDataException, UnreadablePostError
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import APIException, UnsupportedMediaType
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cohorts.api import schema
from cohorts.services import items
from cohorts.services.ingest import ingest_payments, ingest_profiles
from config.errors import ingested
from huidu.errors import InputError
from huidu.wire.access import KeyKind

JSON: Final = "application/json"


class TooLarge(APIException):
    status_code = 413
    default_detail = f"expected at most {items.MAX_ITEMS} items and 4 MB"
    default_code = "input.too_large"

    def __init__(self, detail: str | None = None, *, path: str = "") -> None:
        super().__init__(detail)
        self.path = path


class IngestView(APIView):
    """Takes a list of items; counts the good ones, lists the others."""

    required_kind = KeyKind.INGEST
    list_name: str

    def ingest(self, request: Request, ingest: Callable[[bytes], items.IngestResult]) -> Response:
        body = _body(request)
        try:
            result = ingest(body)
        except InputError as error:
            if error.code == TooLarge.default_code:
                raise TooLarge(error.message, path=error.path) from None
            raise
        return ingested(result, self.list_name)


class PaymentsView(IngestView):
    list_name = "payments"

    @extend_schema(
        operation_id="ingest_payments",
        request=schema.PAYMENTS,
        responses={200: schema.INGEST_RESULT, **schema.ERRORS},
        tags=["ingest"],
    )
    def post(self, request: Request) -> Response:
        """Count payments, each `event_id` once over all time.

        A payment may be of any age; it lands on its own day. More than a day ahead of the clock it
        is rejected. A refund is not a payment. At most 5,000 a request.
        """
        return self.ingest(
            request, lambda body: ingest_payments(items.read_payments(body), timezone.now())
        )


class ProfilesView(IngestView):
    list_name = "profiles"

    @extend_schema(
        operation_id="ingest_profiles",
        request=schema.PROFILES,
        responses={200: schema.INGEST_RESULT, **schema.ERRORS},
        tags=["ingest"],
    )
    def post(self, request: Request) -> Response:
        """Bring facts about users up to date.

        A missing field leaves the stored value, `null` makes it unknown. Only registered
        attributes are taken. At most 5,000 a request.
        """
        return self.ingest(
            request, lambda body: ingest_profiles(items.read_profiles(body), timezone.now())
        )


def _body(request: Request) -> bytes:
    """The request's bytes, if they may be JSON at all."""
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise UnsupportedMediaType(
            media_type or "none", detail=f"expected content type {JSON}, got {media_type or 'none'}"
        )
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMediaType(encoding, detail=f"expected no encoding, got {encoding}")
    try:
        body: bytes = request._request.body
    except RequestDataTooBig:
        raise TooLarge() from None
    except (UnreadablePostError, RawPostDataException) as error:
        raise InputError(f"expected a whole request body: {error}") from None
    return body
