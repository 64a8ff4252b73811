"""Management of flags, gates, tiers, region policies, cohorts and compliance."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from cohorts.models import Cohort, UserList
from rollout import selectors
from rollout.api import serializers as shapes
from rollout.api.authentication import actor_of, environment_of
from rollout.api.base import Manage
from rollout.models import ComplianceItem, Flag, Gate, RegionPolicy, Tier
from rollout.services import cohort_edits, compliance, flags, payloads


class FlagViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    queryset = Flag.objects.filter(archived_at=None).select_related("exclusion")
    lookup_field = "key"
    lookup_value_regex = "[^/]+"
    filterset_fields: ClassVar = ["enabled", "killed", "entry_mode", "type"]
    search_fields: ClassVar = ["key", "label_zh", "label_en", "description", "owner"]
    ordering_fields: ClassVar = ["key", "updated_at", "created_at"]

    def get_serializer_class(self) -> Any:
        if self.action in ("partial_update", "update"):
            return shapes.FlagChangeSerializer
        return shapes.FlagSerializer

    def create(self, request: Request) -> Response:
        values = self.payload()
        fields, lists = payloads.flag_values(environment_of(request), values)
        row = flags.create(
            environment_of(request),
            fields.pop("key", ""),
            by=actor_of(request),
            reason=self.reason(),
            **fields,
        )
        if lists:
            row = flags.update(
                row,
                {},
                by=actor_of(request),
                reason=self.reason(),
                allow_lists=lists.get("allow_lists"),
                block_lists=lists.get("block_lists"),
            )
        return self.shown(row, code=201)

    def partial_update(self, request: Request, key: str) -> Response:
        row = self.get_object()
        return self.change(
            "flag.update", row.pk, self.payload(partial=True, instance=row)
        ) or self.shown(row)

    def destroy(self, request: Request, key: str) -> Response:
        flags.archive(self.get_object(), by=actor_of(request), reason=self.reason())
        return Response(status=204)

    @extend_schema(request=shapes.ReasonSerializer, responses=shapes.KilledSerializer)
    @action(detail=True, methods=["post"])
    def kill(self, request: Request, key: str) -> Response:
        """Hide the flag from everybody at once."""
        done = flags.kill(self.get_object(), by=actor_of(request), reason=self.reason())
        return Response(
            {
                "flag": done.flag.key,
                "killed": done.flag.killed,
                "snapshot": done.snapshot.version if done.snapshot else None,
                "reached_nodes": done.reached_nodes,
            }
        )

    @extend_schema(request=shapes.ReasonSerializer, responses=shapes.FlagSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, key: str) -> Response:
        """Bring a killed flag back; 202 with a change request where two people are needed."""
        row = self.get_object()
        return self.change("flag.resume", row.pk, {}) or self.shown(row)


class OfFlag(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    """Rows below a flag; a new one names its flag by key."""

    environment_path = "flag__environment"
    kind: ClassVar[str]
    model: ClassVar[type[models.Model]]

    def get_serializer(self, *args: Any, **options: Any) -> Any:
        serializer: Any = super().get_serializer(*args, **options)
        fields = getattr(serializer, "child", serializer).fields
        fields["flag"] = serializers.CharField(
            source="flag.key", max_length=63, read_only=serializer.instance is not None
        )
        return serializer

    def create(self, request: Request) -> Response:
        values = self.payload()
        key = values.pop("flag", "")
        flag = selectors.flag_of(environment_of(request), str(key))
        if flag is None:
            raise serializers.ValidationError({"flag": ["expected the key of a flag"]})
        values["flag"] = flag.pk
        answer = self.change(self.kind, 0, values)
        if answer is not None:
            return answer
        row = self.model._default_manager.get(flag=flag, key=values.get("key"))
        return self.shown(row, code=201)

    def partial_update(self, request: Request, pk: str) -> Response:
        row = self.get_object()
        values = self.payload(partial=True, instance=row)
        values.pop("flag", None)
        return self.change(self.kind, row.pk, values) or self.shown(row)


class GateViewSet(OfFlag):
    queryset = Gate.objects.select_related("flag", "region_policy")
    serializer_class = shapes.GateSerializer
    filterset_fields: ClassVar = ["flag__key", "dimension", "enabled"]
    search_fields: ClassVar = ["key", "why", "label_zh", "label_en"]
    kind = "gate.save"
    model = Gate

    def destroy(self, request: Request, pk: str) -> Response:
        row = self.get_object()
        return self.change("gate.remove", row.pk, {}) or Response(status=204)


class TierViewSet(OfFlag):
    queryset = Tier.objects.select_related("flag")
    serializer_class = shapes.TierSerializer
    filterset_fields: ClassVar = ["flag__key"]
    search_fields: ClassVar = ["key", "label_zh", "label_en"]
    kind = "tier.save"
    model = Tier


class RegionPolicyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    queryset = RegionPolicy.objects.prefetch_related("classes", "assignments__region_class")
    serializer_class = shapes.RegionPolicySerializer
    lookup_field = "key"
    lookup_value_regex = "[^/]+"
    search_fields: ClassVar = ["key", "label_zh", "label_en"]

    def update(self, request: Request, key: str) -> Response:
        """Make the policy of that key, or replace it as one step."""
        values = self.payload()
        if values.get("key") != key:
            raise serializers.ValidationError({"key": [f"expected {key} as in the address"]})
        environment = environment_of(request)
        answer = self.change("region_policy.save", 0, values | {"environment": environment})
        if answer is not None:
            return answer
        return Response(self.get_serializer(self.get_queryset().get(key=key)).data)


class CohortViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    queryset = Cohort.objects.all()
    serializer_class = shapes.CohortSerializer
    environment_path = ""
    lookup_field = "key"
    lookup_value_regex = "[^/]+"
    search_fields: ClassVar = ["key", "label_zh", "label_en", "description"]

    def create(self, request: Request) -> Response:
        row = cohort_edits.save_cohort(self.payload(), by=actor_of(request), reason=self.reason())
        return self.shown(row, code=201)

    def partial_update(self, request: Request, key: str) -> Response:
        row = self.get_object()
        return self.change(
            "cohort.save", row.pk, self.payload(partial=True, instance=row)
        ) or self.shown(row)


class UserListViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    """Lists of users; their members are changed by import (`cohorts`)."""

    queryset = UserList.objects.all()
    serializer_class = shapes.UserListSerializer
    environment_path = ""
    lookup_field = "key"
    lookup_value_regex = "[^/]+"
    filterset_fields: ClassVar = ["kind"]
    search_fields: ClassVar = ["key", "label_zh", "label_en"]


class ComplianceItemViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    queryset = ComplianceItem.objects.select_related("flag")
    serializer_class = shapes.ComplianceItemSerializer
    environment_path = "flag__environment"
    filterset_fields: ClassVar = ["flag__key"]
    search_fields: ClassVar = ["key", "text_zh", "text_en", "source"]

    @extend_schema(request=shapes.ReasonSerializer)
    @action(detail=True, methods=["post"])
    def sign(self, request: Request, pk: str) -> Response:
        """Sign the item: the signer answers for it by name."""
        row = compliance.sign(self.get_object(), by=actor_of(request), reason=self.reason())
        return self.shown(row)
