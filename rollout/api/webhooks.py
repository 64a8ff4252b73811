"""Webhooks of this environment, and what became of their messages."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from rollout.api import serializers as shapes
from rollout.api.authentication import actor_of, environment_of
from rollout.api.base import Manage
from rollout.models import Delivery, Webhook
from rollout.services import webhooks


class WebhookSerializer(shapes.Row):
    events = serializers.ListField(
        child=serializers.CharField(max_length=63), required=False, help_text="Empty: all events."
    )

    class Meta:
        model = Webhook
        exclude: ClassVar = ["secret"]
        read_only_fields: ClassVar = ["environment"]


class DeliverySerializer(shapes.Row):
    class Meta:
        model = Delivery
        fields = "__all__"


class WebhookViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    """A webhook's signing secret is in the answer that makes it, and nowhere else."""

    queryset = Webhook.objects.all()
    serializer_class = WebhookSerializer
    filterset_fields: ClassVar = ["enabled"]
    search_fields: ClassVar = ["name", "url"]

    def create(self, request: Request) -> Response:
        row, secret = webhooks.create(
            environment_of(request), self.payload(), by=actor_of(request), reason=self.reason()
        )
        return Response(self.get_serializer(row).data | {"secret": secret}, status=201)

    def partial_update(self, request: Request, pk: str) -> Response:
        row = self.get_object()
        values = self.payload(partial=True, instance=row)
        webhooks.update(row, values, by=actor_of(request), reason=self.reason())
        return self.shown(row)

    @extend_schema(request=shapes.ReasonSerializer, responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        webhooks.remove(self.get_object(), by=actor_of(request), reason=self.reason())
        return Response(status=204)

    @extend_schema(request=None, responses={200: DeliverySerializer})
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: str) -> Response:
        """Send a test message now; the answer says whether it arrived."""
        done = webhooks.try_out(self.get_object(), by=actor_of(request))
        return Response(DeliverySerializer(done).data)

    @extend_schema(responses={200: DeliverySerializer(many=True)})
    @action(detail=True, methods=["get"], filter_backends=[])
    def deliveries(self, request: Request, pk: str) -> Response:
        """What was sent, newest first."""
        rows: Any = self.paginate_queryset(self.get_object().deliveries.all())
        return self.get_paginated_response(DeliverySerializer(rows, many=True).data)
