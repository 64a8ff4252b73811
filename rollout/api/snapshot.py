"""``GET /api/v1/snapshot``: what SDKs and other nodes load."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from huidu.wire import snapshot as wire
from huidu.wire.access import KeyKind
from huidu.wire.ofrep import etag_matches
from rollout.api.authentication import environment_of
from rollout.services import publishing

BLOB = "application/octet-stream"


class _AnyAccept(BaseContentNegotiation):
    """Errors are JSON whatever the caller accepts; the view itself reads Accept."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        return next(iter(parsers), None)

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        return JSONRenderer(), "application/json"


class SnapshotView(APIView):
    """The current snapshot: bytes with a checksum, or JSON for people (Accept)."""

    required_kind: ClassVar[KeyKind] = KeyKind.SERVER
    content_negotiation_class = _AnyAccept

    @extend_schema(
        responses={
            (200, BLOB): bytes,
            (200, "application/json"): dict,
            304: OpenApiResponse(description="unchanged"),
            404: OpenApiResponse(description="nothing published yet"),
        }
    )
    def get(self, request: Request) -> HttpResponse:
        row = publishing.last_snapshot(environment_of(request))
        if row is None:
            return Response(
                {"error": {"code": "not_found", "message": "nothing published yet", "path": ""}},
                status=404,
            )
        as_json = "application/json" in request.headers.get("Accept", "")
        tag = f'"{row.version}{".json" if as_json else ""}"'
        headers = {"ETag": tag, "Vary": "Accept, Authorization", "Cache-Control": "no-cache"}
        if etag_matches(request.headers.get("If-None-Match", ""), tag):
            return HttpResponse(status=304, headers=headers)
        blob = bytes(row.blob)
        if as_json:
            text = wire.text_of(blob)
            return HttpResponse(text, content_type="application/json", headers=headers)
        return HttpResponse(blob, content_type=BLOB, headers=headers)
