"""Rows as JSON. Reading only shows; writing checks shapes, services check meaning."""

from __future__ import annotations

from typing import Any, ClassVar

from django.utils import timezone
from rest_framework import serializers

from cohorts.models import Attribute, Cohort, Place, UserList
from cohorts.selectors import day_of
from rollout.models import (
    ApiKey,
    AuditEntry,
    ChangeRequest,
    ComplianceItem,
    Decision,
    ExclusionGroup,
    Flag,
    FundingPartner,
    Gate,
    Guard,
    Metric,
    RegionPolicy,
    Rollout,
    Snapshot,
    Stage,
    Tier,
)
from rollout.selectors_funding import rooms
from rollout.services import guard_templates
from rollout.services.stages import GUARD_EDITABLE


class Row(serializers.ModelSerializer[Any]):
    """A model's columns; unique keys are left to the service, which says which one is taken."""

    def get_validators(self) -> list[Any]:
        return []


class ByKey(serializers.SlugRelatedField[Any]):
    """Another row, named by its key."""

    def __init__(self, **options: Any) -> None:
        super().__init__(slug_field="key", **options)


class Days(serializers.DurationField):
    """ISO 8601, such as P7D; seconds are understood as well."""

    def __init__(self, **options: Any) -> None:
        super().__init__(format="iso-8601", **options)


class FlagSerializer(Row):
    exclusion = ByKey(queryset=ExclusionGroup.objects.all(), allow_null=True, required=False)
    allow_lists = ByKey(queryset=UserList.objects.all(), many=True, required=False)
    block_lists = ByKey(queryset=UserList.objects.all(), many=True, required=False)

    class Meta:
        model = Flag
        exclude: ClassVar = ["archived_at"]
        read_only_fields: ClassVar = [
            "environment",
            "killed",
            "killed_at",
            "killed_by",
            "killed_reason",
        ]


class FlagChangeSerializer(FlagSerializer):
    """As a flag; the key stays what applications ask for."""

    class Meta(FlagSerializer.Meta):
        read_only_fields: ClassVar = [*FlagSerializer.Meta.read_only_fields, "key"]


class StageSerializer(Row):
    audience = ByKey(queryset=Cohort.objects.all(), allow_null=True, required=False)
    minimum_stay = Days(required=False)
    maximum_stay = Days(required=False)
    threshold = serializers.CharField(
        read_only=True, allow_null=True, help_text="A whole number up to 2**64, as text."
    )

    class Meta:
        model = Stage
        fields = "__all__"


class RolloutSerializer(Row):
    flag = serializers.CharField(source="flag.key", read_only=True)
    current = serializers.CharField(source="current.key", read_only=True, default=None)
    stages = StageSerializer(many=True, read_only=True)

    class Meta:
        model = Rollout
        fields = "__all__"
        read_only_fields: ClassVar = ["created_by", "sticky", "name"]


class NewRolloutSerializer(serializers.Serializer[Any]):
    flag = serializers.CharField(max_length=63)
    name = serializers.CharField(max_length=120, required=False, default="", allow_blank=True)
    sticky = serializers.BooleanField(required=False, default=True)


class GateSerializer(Row):
    region_policy = ByKey(queryset=RegionPolicy.objects.all(), allow_null=True, required=False)
    rule = serializers.JSONField(required=False, allow_null=True)

    class Meta:
        model = Gate
        fields = "__all__"


class FundingPartnerSerializer(Row):
    """A funding partner, with what it has given (`given_today`, `given`) and may give today."""

    class Meta:
        model = FundingPartner
        fields = "__all__"

    def to_representation(self, partner: FundingPartner) -> dict[str, Any]:
        (room,) = rooms([partner], day_of(timezone.now()))
        return super().to_representation(partner) | {
            "given_today": room.today,
            "given": room.total,
            "left_today": room.left,
            "state": room.state,
        }


class PlaceSerializer(Row):
    """Who has a place, and since when; `partner` is the partner's number, 0 for nobody's."""

    class Meta:
        model = Place
        fields = "__all__"


class TierSerializer(Row):
    class Meta:
        model = Tier
        fields = "__all__"


class CohortSerializer(Row):
    class Meta:
        model = Cohort
        fields = "__all__"


class AttributeSerializer(Row):
    class Meta:
        model = Attribute
        fields = "__all__"
        read_only_fields: ClassVar = ["id", "retired_at", "held_since", "built_in"]


class AttributeUseSerializer(serializers.Serializer[Any]):
    """One row whose rule names an attribute."""

    kind = serializers.ChoiceField(choices=["cohort", "gate", "tier", "stage", "change"])
    id = serializers.IntegerField(source="row.pk")
    name = serializers.CharField(help_text="As people find it, such as ``weilidai/adult``.")
    flag = serializers.CharField(source="flag.key", default=None, allow_null=True)
    live = serializers.BooleanField(help_text="False: it belongs to an archived flag.")


class RenameSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=63)
    reason = serializers.CharField(max_length=2_000)


class UserListSerializer(Row):
    class Meta:
        model = UserList
        fields: ClassVar = [
            "number",
            "key",
            "kind",
            "label_zh",
            "label_en",
            "description",
            "invitation_lifetime",
            "version",
            "size",
            "updated_at",
        ]


class RegionPolicySerializer(serializers.Serializer[RegionPolicy]):
    """A region policy as one object: classes by key, and the class of each region."""

    key = serializers.CharField(max_length=63)
    label_zh = serializers.CharField(max_length=120, required=False, default="", allow_blank=True)
    label_en = serializers.CharField(max_length=120, required=False, default="", allow_blank=True)
    default = serializers.CharField(max_length=63, source="default_class")
    source = serializers.CharField(  # type: ignore[assignment]
        required=False, default="", allow_blank=True
    )
    version = serializers.IntegerField(read_only=True)
    classes = serializers.DictField(child=serializers.DictField())
    regions = serializers.DictField(child=serializers.CharField(max_length=63))

    def to_representation(self, policy: RegionPolicy) -> dict[str, Any]:
        return {
            "key": policy.key,
            "label_zh": policy.label_zh,
            "label_en": policy.label_en,
            "default": policy.default_class,
            "source": policy.source,
            "version": policy.version,
            "classes": {
                each.key: {
                    "ceiling_ppm": each.ceiling_ppm,
                    "payload": each.payload,
                    "label_zh": each.label_zh,
                    "label_en": each.label_en,
                }
                for each in policy.classes.all()
            },
            "regions": {each.code: each.region_class.key for each in policy.assignments.all()},
        }


class MetricSerializer(Row):
    lag = Days(required=False, allow_null=True)

    class Meta:
        model = Metric
        fields = "__all__"
        read_only_fields: ClassVar = ["environment"]


class TryQuerySerializer(serializers.Serializer[Any]):
    """A query to be asked once."""

    kind = serializers.ChoiceField(choices=Metric.Kind.choices)
    source = serializers.ChoiceField(  # type: ignore[assignment]
        choices=Metric.Source.choices, default=Metric.Source.SQL
    )
    query = serializers.CharField(max_length=20_000)


class FirstRowsSerializer(serializers.Serializer[Any]):
    """What a query answers, once it is known that it can be counted."""

    columns = serializers.DictField(
        child=serializers.CharField(), help_text="The type of each column, as the warehouse says."
    )
    rows = serializers.ListField(child=serializers.DictField(), help_text="The first ten.")
    total = serializers.IntegerField(help_text="How many rows there are.")
    latest = serializers.DateTimeField(
        allow_null=True, help_text="Up to when the source is complete; null without any row."
    )


class GuardSerializer(Row):
    metric = ByKey(queryset=Metric.objects.all())
    reading = serializers.SerializerMethodField(
        help_text="What the guard means, as sentences in Chinese and English."
    )

    def get_reading(self, guard: Guard) -> dict[str, list[str]]:
        return guard_templates.in_both_languages(guard)

    class Meta:
        model = Guard
        fields = "__all__"


class GuardOfferSerializer(serializers.Serializer[Any]):
    """A template as it stands to one stage."""

    template = serializers.CharField(source="template.key")
    why = serializers.CharField(source="template.why")
    is_there = serializers.BooleanField(help_text="Whether its metric guards the stage already.")
    metric_is_new = serializers.BooleanField(help_text="Whether adding it makes the metric too.")
    values = serializers.SerializerMethodField(help_text="The guard's values, all editable.")
    reading = serializers.SerializerMethodField(
        help_text="What the guard means, as sentences in Chinese and English."
    )

    def get_values(self, offer: guard_templates.Offer) -> dict[str, Any]:
        return {name: getattr(offer.guard, name) for name in sorted(GUARD_EDITABLE)}

    def get_reading(self, offer: guard_templates.Offer) -> dict[str, list[str]]:
        return guard_templates.in_both_languages(offer.guard)


class AddGuardsSerializer(serializers.Serializer[Any]):
    guards = serializers.ListField(
        child=serializers.DictField(),
        help_text='As [{"template": "complaint", "margin_rel": 0.3}].',
    )
    reason = serializers.CharField(
        max_length=2_000, required=False, default="", allow_blank=True, help_text="Why."
    )


class ComplianceItemSerializer(Row):
    flag = serializers.CharField(source="flag.key", read_only=True)

    class Meta:
        model = ComplianceItem
        fields = "__all__"


class DecisionSerializer(Row):
    flag = serializers.CharField(source="stage.rollout.flag.key", read_only=True)
    stage_key = serializers.CharField(source="stage.key", read_only=True)

    class Meta:
        model = Decision
        fields = "__all__"


class ChangeRequestSerializer(Row):
    class Meta:
        model = ChangeRequest
        fields = "__all__"


class AuditEntrySerializer(Row):
    class Meta:
        model = AuditEntry
        fields = "__all__"


class ApiKeySerializer(Row):
    class Meta:
        model = ApiKey
        exclude: ClassVar = ["digest"]


class NewKeySerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=ApiKey.Kind.choices)
    name = serializers.CharField(max_length=120)


class SnapshotSerializer(Row):
    class Meta:
        model = Snapshot
        exclude: ClassVar = ["blob"]


class ReasonSerializer(serializers.Serializer[Any]):
    """Why: it stands in the audit log."""

    reason = serializers.CharField(max_length=2_000)


class NoteSerializer(serializers.Serializer[Any]):
    note = serializers.CharField(max_length=2_000, required=False, default="", allow_blank=True)


class WidenSerializer(ReasonSerializer):
    share_ppm = serializers.IntegerField(min_value=0, max_value=1_000_000)


class DryRunSerializer(ReasonSerializer):
    dry_run = serializers.BooleanField(help_text="True: decide and record, and move nothing.")


class KilledSerializer(serializers.Serializer[Any]):
    flag = serializers.CharField()
    killed = serializers.BooleanField()
    snapshot = serializers.CharField(allow_null=True)
    reached_nodes = serializers.BooleanField(help_text="False: the store is away; it will follow.")
