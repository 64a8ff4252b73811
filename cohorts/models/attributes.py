"""The typed registry of what rules may ask about a user."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from cohorts.models import fields
from huidu.model import AttributeSource, AttributeType

FIRST_CUSTOM_SLOT = 100
"""Slots below are the platform's own; the database numbers custom attributes from here."""

MOST_RETENTION_DAYS = 36_500


class Attribute(models.Model):
    """One fact about a user that rules may use.

    The id is the attribute's slot in packed profiles. It comes from a sequence, so the slot of a
    deleted attribute is never dealt again and old records cannot be misread.
    """

    class Type(models.TextChoices):
        INTEGER = AttributeType.INTEGER.value, _("whole number")
        NUMBER = AttributeType.NUMBER.value, _("number")
        STRING = AttributeType.STRING.value, _("text")
        BOOLEAN = AttributeType.BOOLEAN.value, _("yes or no")
        DATE = AttributeType.DATE.value, _("date")
        REGION = AttributeType.REGION.value, _("region code")
        SEM_VER = AttributeType.SEM_VER.value, _("version")
        STRINGS = AttributeType.STRINGS.value, _("list of texts")

    class Source(models.TextChoices):
        HELD = AttributeSource.HELD.value, _("only the platform")
        CALLER = AttributeSource.CALLER.value, _("only the caller")
        EITHER = AttributeSource.EITHER.value, _("the caller with a server key, else the platform")

    class Sensitivity(models.TextChoices):
        ORDINARY = "ordinary", _("ordinary")
        FINANCIAL = "financial", _("financial")  # PIPL art. 28: financial accounts
        SENSITIVE = "sensitive", _("sensitive personal")  # the rest of PIPL art. 28
        RISK = "risk", _("anti-fraud")  # never told to customers

    NEVER_TOLD = frozenset({Sensitivity.SENSITIVE, Sensitivity.RISK})
    """Values that explanations keep from customers and from support."""

    id = models.SmallAutoField(_("slot"), primary_key=True)
    name = models.CharField(_("name"), max_length=63, unique=True, validators=[fields.valid_name])
    type = models.CharField(_("type"), max_length=8, choices=Type.choices)
    source = models.CharField(
        _("who may say it"), max_length=6, choices=Source.choices, default=Source.HELD
    )
    unit = models.CharField(
        _("unit"), max_length=40, blank=True, default="", help_text=_("Such as CNY or payments.")
    )
    label_zh = fields.label_field(_("name (Chinese)"))
    label_en = fields.label_field(_("name (English)"))
    minimum = models.FloatField(_("least"), null=True, blank=True)
    maximum = models.FloatField(_("most"), null=True, blank=True)
    sensitivity = models.CharField(
        _("sensitivity"),
        max_length=9,
        choices=Sensitivity.choices,
        default=Sensitivity.ORDINARY,
    )
    retention_days = models.PositiveIntegerField(
        _("kept for (days)"),
        null=True,
        blank=True,
        help_text=_(
            "A held value that nobody has confirmed for so many days is deleted at night, from "
            "the history too. Empty: kept as long as the user's profile."
        ),
    )
    retired_at = models.DateTimeField(_("retired on"), null=True, blank=True, editable=False)
    held_since = models.DateTimeField(_("first held"), null=True, blank=True, editable=False)
    """When the first value arrived; from then on name and type are part of every past answer."""
    built_in = models.BooleanField(_("built in"), default=False, editable=False)

    class Meta:
        verbose_name = _("attribute")
        verbose_name_plural = _("attributes")
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                name="attribute_name", condition=models.Q(name__regex=r"^[a-z][a-z0-9_]{0,62}$")
            ),
            models.CheckConstraint(
                name="attribute_type",
                condition=models.Q(type__in=[each.value for each in AttributeType]),
            ),
            models.CheckConstraint(
                name="attribute_source",
                condition=models.Q(source__in=[each.value for each in AttributeSource]),
            ),
            models.CheckConstraint(
                name="attribute_retention",
                condition=fields.unknown_or("retention_days", gte=1, lte=MOST_RETENTION_DAYS),
            ),
            models.CheckConstraint(
                name="attribute_range",
                condition=models.Q(minimum__isnull=True)
                | models.Q(maximum__isnull=True)
                | models.Q(minimum__lte=models.F("maximum")),
            ),
            models.CheckConstraint(
                name="attribute_built_in_slot",
                condition=models.Q(built_in=True, id__lt=FIRST_CUSTOM_SLOT)
                | models.Q(built_in=False, id__gte=FIRST_CUSTOM_SLOT),
            ),
        ]

    def __str__(self) -> str:
        return self.name
