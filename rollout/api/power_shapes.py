"""Shapes of power planning: what is asked about a planned stage, and what is answered."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class BaseSerializer(serializers.Serializer[Any]):
    """What a metric shows without the product."""

    value = serializers.FloatField(help_text="A share of users, or a mean.")
    deviation = serializers.FloatField(
        required=False, allow_null=True, default=None, help_text="Of means: standard deviation."
    )


class AskPowerSerializer(serializers.Serializer[Any]):
    traffic = serializers.FloatField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Users a day who pass every gate, drawn or not; without it our guess.",
    )
    bases = serializers.DictField(
        child=BaseSerializer(),
        required=False,
        default=dict,
        help_text="By metric; what is missing is read from earlier stages.",
    )


class ShareSerializer(serializers.Serializer[Any]):
    share_ppm = serializers.IntegerField()
    from_day = serializers.FloatField()
    days = serializers.FloatField(allow_null=True, help_text="At least; null: the last share.")
    users_per_day = serializers.FloatField(help_text="Left to chance at this share.")
    treated_per_day = serializers.FloatField()


class GuardPowerSerializer(serializers.Serializer[Any]):
    """What one guard can prove and catch. Days count from the start of the stage."""

    metric = serializers.CharField()
    role = serializers.CharField(source="guard.role")
    margin_rel = serializers.FloatField(source="guard.margin_rel", allow_null=True)
    base = serializers.FloatField(source="base.value", allow_null=True, default=None)
    hopeless = serializers.BooleanField(
        help_text="It must prove, and all but never can within the longest stay."
    )
    why_not = serializers.CharField(
        help_text="absolute, no_control, no_base, or a sentence; empty where it can be planned."
    )
    proven = serializers.FloatField(
        source="outlook.proven",
        default=None,
        help_text="Share of harmless stages with a proof by the longest stay.",
    )
    day_early = serializers.FloatField(source="outlook.day_early", default=None)
    day = serializers.FloatField(
        source="outlook.day", default=None, help_text="By which half of them have it."
    )
    day_late = serializers.FloatField(source="outlook.day_late", default=None)
    users = serializers.IntegerField(
        source="outlook.users", default=None, help_text="Treated users by that day."
    )
    smallest_margin = serializers.FloatField(
        source="outlook.smallest_margin",
        default=None,
        help_text="Proven by 80 % of harmless stages in time.",
    )
    smallest_harm = serializers.FloatField(
        source="outlook.smallest_harm",
        default=None,
        help_text="Treated over control, caught within a day of the first share.",
    )


class StagePowerSerializer(serializers.Serializer[Any]):
    traffic = serializers.FloatField(source="daily_traffic")
    guessed = serializers.BooleanField(help_text="Whether the traffic is our guess.")
    hopeless = serializers.BooleanField(help_text="Whether a guard can never conclude.")
    shares = ShareSerializer(many=True)
    guards = GuardPowerSerializer(many=True)
