"""What all management views share: who may, which environment, and one way to change things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import Http404
from django_filters.rest_framework import DjangoFilterBackend  # type: ignore[import-untyped]
from rest_framework import status
from rest_framework.exceptions import ParseError
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from huidu.wire.access import KeyKind
from rollout.api.authentication import (
    ApiKeyAuthentication,
    HasRight,
    StaffSession,
    actor_of,
    environment_of,
)
from rollout.api.serializers import ChangeRequestSerializer
from rollout.services import changes


class Manage(GenericViewSet[Any]):
    """Rows of one environment, for admin keys and logged-in staff.

    `environment_path` is the way from a row to its environment; empty for rows that belong to all.
    """

    authentication_classes = [ApiKeyAuthentication, StaffSession]
    permission_classes = [HasRight]
    required_kind: ClassVar[KeyKind] = KeyKind.ADMIN
    filter_backends = [DjangoFilterBackend, SearchFilter, OrderingFilter]
    environment_path: ClassVar[str] = "environment"

    def get_queryset(self) -> QuerySet[Any]:
        rows = super().get_queryset()
        if not self.environment_path or getattr(self, "swagger_fake_view", False):
            return rows
        return rows.filter(**{self.environment_path: environment_of(self.request)})

    def get_object(self) -> Any:
        name = self.lookup_url_kwarg or self.lookup_field
        if "\0" in str(self.kwargs[name]) or len(str(self.kwargs[name])) > 300:
            raise Http404
        return super().get_object()

    def payload(self, **options: Any) -> dict[str, Any]:
        """The request's JSON, once its shapes are checked: only fields that may be written.

        Raises:
            ValidationError, ParseError: with the path of the fault.
        """
        data = self.request.data
        if not isinstance(data, Mapping):
            raise ParseError("expected a JSON object")
        serializer: Any = self.get_serializer(data=data, **options)
        serializer.is_valid(raise_exception=True)
        writable = {
            name for name, field in serializer.fields.items() if not getattr(field, "read_only", 0)
        }
        return {str(name): value for name, value in data.items() if name in writable}

    def reason(self) -> str:
        """Why, as the request's ``reason``; services say when it is needed."""
        data = self.request.data
        reason = data.get("reason", "") if isinstance(data, Mapping) else ""
        return reason if isinstance(reason, str) else ""

    def change(self, kind: str, target: int, payload: Mapping[str, Any]) -> Response | None:
        """Do it, or file a request where a second person is needed: 202 with the request.

        Returns:
            The answer to give when a request was filed; None when the change was done.
        """
        filed = changes.do_or_request(
            kind,
            target,
            payload,
            environment=environment_of(self.request),
            by=actor_of(self.request),
            reason=self.reason(),
        )
        if filed is None:
            return None
        return Response(ChangeRequestSerializer(filed).data, status=status.HTTP_202_ACCEPTED)

    def shown(self, row: Any, request: Request | None = None, code: int = 200) -> Response:
        """A row as it is now."""
        row.refresh_from_db()
        return Response(self.get_serializer(row).data, status=code)
