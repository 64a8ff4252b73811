"""Management of the attribute registry."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters  # type: ignore[import-untyped]
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from cohorts.models import Attribute
from rollout.api import serializers as shapes
from rollout.api.authentication import actor_of
from rollout.api.base import Manage
from rollout.services import attribute_edits, attribute_uses


class AttributeFilter(django_filters.FilterSet):
    """By type, source, sensitivity; `retired` tells what is out of use, or leaves it out."""

    retired = django_filters.BooleanFilter(
        field_name="retired_at", lookup_expr="isnull", exclude=True
    )

    class Meta:
        model = Attribute
        fields: ClassVar = ["type", "source", "sensitivity", "built_in"]


class AttributeViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    """What rules may ask about a user; shared by all environments."""

    queryset = Attribute.objects.all()
    serializer_class = shapes.AttributeSerializer
    environment_path = ""
    staff_right = "cohorts.change_attribute"
    lookup_field = "name"
    lookup_value_regex = "[^/]+"
    filterset_class = AttributeFilter
    search_fields: ClassVar = ["name", "label_zh", "label_en"]
    ordering_fields: ClassVar = ["id", "name"]

    def create(self, request: Request) -> Response:
        row = attribute_edits.save_attribute(
            self.payload(), by=actor_of(request), reason=self.reason()
        )
        return self.shown(row, code=201)

    def partial_update(self, request: Request, name: str) -> Response:
        """202 with a change request where two people are needed."""
        row = self.get_object()
        return self.change(
            "attribute.save", row.pk, self.payload(partial=True, instance=row)
        ) or self.shown(row)

    @extend_schema(request=shapes.ReasonSerializer, responses={204: None})
    def destroy(self, request: Request, name: str) -> Response:
        """Delete an attribute that no rule uses and no value was ever held of."""
        attribute_edits.remove(self.get_object(), by=actor_of(request), reason=self.reason())
        return Response(status=204)

    @extend_schema(responses=shapes.AttributeUseSerializer(many=True), filters=False)
    @action(detail=True, methods=["get"], pagination_class=None)
    def uses(self, request: Request, name: str) -> Response:
        """Every cohort, gate, tier, stage and waiting change request whose rule names it."""
        found = attribute_uses.uses_of(self.get_object().name)
        return Response(shapes.AttributeUseSerializer(found, many=True).data)

    @extend_schema(request=shapes.RenameSerializer)
    @action(detail=True, methods=["post"])
    def rename(self, request: Request, name: str) -> Response:
        """Another name for an attribute that nothing rests on; 409 tells what does."""
        row = self.get_object()
        asked = shapes.RenameSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        new = asked.validated_data["name"]
        attribute_edits.rename(row, new, by=actor_of(request), reason=self.reason())
        return self.shown(row)

    @extend_schema(request=shapes.ReasonSerializer)
    @action(detail=True, methods=["post"])
    def retire(self, request: Request, name: str) -> Response:
        """No rule may name it and no value is taken any longer; what was held stays."""
        return self._step(attribute_edits.retire)

    @extend_schema(request=shapes.ReasonSerializer)
    @action(detail=True, methods=["post"])
    def restore(self, request: Request, name: str) -> Response:
        """Take it into use again."""
        return self._step(attribute_edits.restore)

    def _step(self, step: Any) -> Response:
        row = self.get_object()
        step(row, by=actor_of(self.request), reason=self.reason())
        return self.shown(row)
