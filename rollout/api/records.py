"""Metrics, keys, the audit log and published snapshots."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters  # type: ignore[import-untyped]
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from rollout.api import serializers as shapes
from rollout.api.authentication import actor_of, cache, environment_of
from rollout.api.base import Manage
from rollout.models import ApiKey, AuditEntry, Metric, Snapshot
from rollout.services import audit, keys, metrics, payloads, pseudonyms


class MetricViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    queryset = Metric.objects.all()
    serializer_class = shapes.MetricSerializer
    lookup_field = "key"
    lookup_value_regex = "[^/]+"
    filterset_fields: ClassVar = ["kind", "harm", "owner"]
    search_fields: ClassVar = ["key", "label_zh", "label_en", "owner"]

    def _values(self, **options: Any) -> dict[str, Any]:
        values = self.payload(**options)
        if values.get("lag") is not None:
            values["lag"] = payloads.duration(values["lag"], "lag")
        return values

    def create(self, request: Request) -> Response:
        row = metrics.save_metric(
            environment_of(request), self._values(), by=actor_of(request), reason=self.reason()
        )
        return self.shown(row, code=201)

    def partial_update(self, request: Request, key: str) -> Response:
        row = self.get_object()
        metrics.save_metric(
            row.environment,
            self._values(partial=True, instance=row),
            by=actor_of(request),
            metric=row,
            reason=self.reason(),
        )
        return self.shown(row)

    @extend_schema(
        request=shapes.TryQuerySerializer,
        responses=shapes.FirstRowsSerializer,
        examples=[
            OpenApiExample(
                "loans",
                value={
                    "kind": "mean",
                    "source": "sql",
                    "query": "SELECT customer AS user_id, paid AS at, amount AS value FROM loans",
                },
                request_only=True,
            )
        ],
    )
    @action(detail=False, methods=["post"], url_path="try-query")
    def try_query(self, request: Request) -> Response:
        """Ask a query once and show its first rows; 400 with the reason where it cannot be used.

        Nothing is kept but an entry in the audit log."""
        asked = shapes.TryQuerySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        found = metrics.try_out(
            environment_of(request),
            Metric(**asked.validated_data),
            by=actor_of(request),
            now=timezone.now(),
        )
        return Response(shapes.FirstRowsSerializer(found._asdict()).data)


class ApiKeyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    """Keys of this environment; a key's text is in the answer that makes it, and nowhere else."""

    queryset = ApiKey.objects.all()
    serializer_class = shapes.ApiKeySerializer
    filterset_fields: ClassVar = ["kind"]
    search_fields: ClassVar = ["name", "prefix", "created_by"]

    @extend_schema(request=shapes.NewKeySerializer)
    def create(self, request: Request) -> Response:
        asked = shapes.NewKeySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        row, token = keys.create(
            environment_of(request),
            asked.validated_data["kind"],
            asked.validated_data["name"],
            by=actor_of(request),
        )
        return Response(self.get_serializer(row).data | {"token": token}, status=201)

    @extend_schema(request=shapes.ReasonSerializer)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        """End the key at once."""
        row = keys.revoke(self.get_object(), by=actor_of(request), reason=self.reason())
        cache.clear()
        return self.shown(row)


class AuditFilter(django_filters.FilterSet):
    """`user` finds what is about the user of that id; the log itself holds pseudonyms."""

    user = django_filters.CharFilter(method="of_user")

    def of_user(self, rows: Any, name: str, value: str) -> Any:
        return pseudonyms.about(rows, value)

    class Meta:
        model = AuditEntry
        fields: ClassVar = ["actor", "action", "target", "environment"]


class AuditViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    queryset = AuditEntry.objects.all()
    serializer_class = shapes.AuditEntrySerializer
    environment_path = ""
    filterset_class = AuditFilter
    search_fields: ClassVar = ["actor", "action", "target", "reason"]
    ordering_fields: ClassVar = ["sequence", "at"]

    def get_queryset(self) -> QuerySet[AuditEntry]:
        """This environment's entries, and those that concern all."""
        rows = super().get_queryset()
        if getattr(self, "swagger_fake_view", False):
            return rows
        return rows.filter(environment__in=[environment_of(self.request), "all"])

    @extend_schema(request=None, responses={200: dict})
    @action(detail=False, methods=["get"])
    def verify(self, request: Request) -> Response:
        """Read the whole chain and say whether anybody changed it."""
        report = audit.verify_chain()
        return Response(
            {
                "whole": report.whole,
                "entries": report.entries,
                "broken_at": report.broken_at,
                "fault": report.fault,
            }
        )


class SnapshotViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    """What was published, newest first; the content is at ``/api/v1/snapshot``."""

    queryset = Snapshot.objects.defer("blob")
    serializer_class = shapes.SnapshotSerializer
    lookup_field = "sequence"
    filterset_fields: ClassVar = ["version"]
    search_fields: ClassVar = ["cause", "by"]
