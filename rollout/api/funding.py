"""Management of funding partners, and of the places they gave."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters  # type: ignore[import-untyped]
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from cohorts.models import Place
from rollout.api import serializers as shapes
from rollout.api.authentication import actor_of, environment_of
from rollout.api.base import Manage
from rollout.api.flags import OfFlag
from rollout.models import FundingPartner, Rollout
from rollout.services import places


class FundingPartnerViewSet(OfFlag):
    """Caps, regions and shares; a change that may let more users in can need two people (202)."""

    queryset = FundingPartner.objects.select_related("flag")
    serializer_class = shapes.FundingPartnerSerializer
    filterset_fields: ClassVar = ["flag__key", "kind", "is_open"]
    search_fields: ClassVar = ["key", "label_zh", "label_en"]
    kind = "partner.save"
    model = FundingPartner


class PlaceFilter(django_filters.FilterSet):
    """By user, partner and rollout; `held` leaves out what was released."""

    held = django_filters.BooleanFilter(field_name="released_at", lookup_expr="isnull")

    class Meta:
        model = Place
        fields: ClassVar = ["user_id", "partner", "slot"]


class PlaceViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    """Who has a place. Checks give places; here they can be found and taken back."""

    queryset = Place.objects.all()
    serializer_class = shapes.PlaceSerializer
    environment_path = ""
    filterset_class = PlaceFilter

    def get_queryset(self) -> QuerySet[Any]:
        rows = super().get_queryset()
        if getattr(self, "swagger_fake_view", False):
            return rows
        here = Rollout.objects.filter(flag__environment=environment_of(self.request))
        return rows.filter(slot__in=here.values("slot"))

    @extend_schema(request=shapes.ReasonSerializer)
    @action(detail=True, methods=["post"])
    def release(self, request: Request, pk: str) -> Response:
        """Take the place back: the user no longer sees the product, and somebody else may."""
        row = self.get_object()
        places.release(row, by=actor_of(request), reason=self.reason())
        return self.shown(row)
