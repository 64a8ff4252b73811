"""Refusals a user must get past, and the region policies some of them apply."""

from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from rollout.models import fields
from rollout.models.flags import Flag


class RegionPolicy(models.Model):
    """A class for every region: by city, else by province, else the default."""

    environment = fields.environment_field()
    key = fields.key_field()
    label_zh = fields.label_field(_("name (Chinese)"))
    label_en = fields.label_field(_("name (English)"))
    default_class = models.CharField(_("class of all other regions"), max_length=63, default="open")
    source = models.TextField(_("source"), blank=True, default="")
    version = models.PositiveIntegerField(_("version"), default=1, editable=False)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("region policy")
        verbose_name_plural = _("region policies")
        ordering = ["environment", "key"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "key"], name="region_policy_key")
        ]

    def __str__(self) -> str:
        return self.key


class RegionClass(models.Model):
    """What one class of regions allows. A ceiling caps the share of its users by rank; 0 closes."""

    policy = models.ForeignKey(
        RegionPolicy,
        verbose_name=_("region policy"),
        related_name="classes",
        on_delete=models.CASCADE,
    )
    key = fields.key_field()
    label_zh = fields.label_field(_("name (Chinese)"))
    label_en = fields.label_field(_("name (English)"))
    ceiling_ppm = fields.ppm_field(_("ceiling"))
    payload = models.JSONField(_("payload"), default=fields.empty_object, blank=True)

    class Meta:
        verbose_name = _("region class")
        verbose_name_plural = _("region classes")
        ordering = ["policy", "-ceiling_ppm", "key"]
        constraints = [
            models.UniqueConstraint(fields=["policy", "key"], name="region_class_key"),
            models.CheckConstraint(
                name="region_class_ceiling_ppm", condition=fields.ppm_within("ceiling_ppm")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.policy.key}/{self.key}"


class RegionAssignment(models.Model):
    """The class of one city or province, by its GB/T 2260 code."""

    policy = models.ForeignKey(
        RegionPolicy,
        verbose_name=_("region policy"),
        related_name="assignments",
        on_delete=models.CASCADE,
    )
    code = models.CharField(
        _("region code"),
        max_length=6,
        validators=[RegexValidator(r"^[1-9]\d{5}$", _("Use six digits, such as 440300."))],
    )
    region_class = models.ForeignKey(
        RegionClass,
        verbose_name=_("region class"),
        related_name="assignments",
        on_delete=models.PROTECT,
    )
    note = models.CharField(_("note"), max_length=120, blank=True, default="")

    class Meta:
        verbose_name = _("region")
        verbose_name_plural = _("regions")
        ordering = ["policy", "code"]
        constraints = [
            models.UniqueConstraint(fields=["policy", "code"], name="region_assignment_code")
        ]

    def __str__(self) -> str:
        return self.code


class Gate(models.Model):
    """One refusal: by a rule, by the user's region, or for want of a funding partner's place.

    A rule gate lets pass only when its rule is definitely true.
    """

    class Dimension(models.TextChoices):
        ACTIVITY = "activity", _("activity and credit")
        REGION = "region", _("region")
        FUNDING = "funding", _("funding capacity")
        FRAUD = "fraud", _("anti-fraud")
        PRODUCT = "product", _("product matrix")
        COMPLIANCE = "compliance", _("compliance")
        VALUE = "value", _("customer value")
        STAGED = "staged", _("staged release")

    flag = models.ForeignKey(
        Flag, verbose_name=_("flag"), related_name="gates", on_delete=models.CASCADE
    )
    order = models.PositiveSmallIntegerField(_("order"))
    key = fields.key_field()
    label_zh = fields.label_field(_("name (Chinese)"))
    label_en = fields.label_field(_("name (English)"))
    dimension = models.CharField(_("dimension"), max_length=12, choices=Dimension.choices)
    enabled = models.BooleanField(_("enabled"), default=True)
    rule = models.JSONField(
        _("rule"), null=True, blank=True, help_text=_("Lets pass when it is definitely true.")
    )
    region_policy = models.ForeignKey(
        RegionPolicy,
        verbose_name=_("region policy"),
        related_name="gates",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
    )
    capacity = models.BooleanField(
        _("funding capacity"),
        default=False,
        help_text=_(
            "Users who pass everything else need a place of one of the flag's funding partners."
        ),
    )
    why = models.CharField(_("reason code"), max_length=63, validators=[fields.valid_code])
    unknown_why = models.CharField(
        _("reason code when data is missing"),
        max_length=63,
        default="data.missing",
        validators=[fields.valid_code],
    )
    absolute = models.BooleanField(
        _("absolute"), default=True, help_text=_("Refuses users of allow lists, too.")
    )
    keeps_shown = models.BooleanField(
        _("keeps who was shown"),
        default=False,
        help_text=_("Never takes the product from somebody already admitted."),
    )
    customer_zh = models.TextField(_("customer text (Chinese)"), blank=True, default="")
    customer_en = models.TextField(_("customer text (English)"), blank=True, default="")
    support_zh = models.TextField(_("support text (Chinese)"), blank=True, default="")
    support_en = models.TextField(_("support text (English)"), blank=True, default="")
    risk_zh = models.TextField(_("risk text (Chinese)"), blank=True, default="")
    risk_en = models.TextField(_("risk text (English)"), blank=True, default="")
    source = models.TextField(
        _("source"), blank=True, default="", help_text=_("Regulation or policy behind it.")
    )
    version = models.PositiveIntegerField(_("version"), default=1, editable=False)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("gate")
        verbose_name_plural = _("gates")
        ordering = ["flag", "order"]
        constraints = [
            models.UniqueConstraint(fields=["flag", "key"], name="gate_key"),
            models.UniqueConstraint(
                fields=["flag", "order"], name="gate_order", deferrable=models.Deferrable.DEFERRED
            ),
            models.CheckConstraint(
                name="gate_rule_region_or_capacity",
                condition=models.Q(rule__isnull=True, region_policy__isnull=False, capacity=False)
                | models.Q(rule__isnull=False, region_policy__isnull=True, capacity=False)
                | models.Q(rule__isnull=True, region_policy__isnull=True, capacity=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.flag.key}/{self.key}"
