"""Funding partners: who lends, where, how much, and how many places they have given."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from rollout.models import fields
from rollout.models.flags import Flag
from rollout.models.rollouts import Rollout


class FundingPartner(models.Model):
    """A bank that funds one product. Its caps count users admitted, not money lent.

    The number of a partner is packed into the profiles of its users, so it is small and never
    used again.
    """

    class Kind(models.TextChoices):
        STATE = "state", _("state-owned bank")
        JOINT_STOCK = "joint_stock", _("joint-stock bank")
        CITY = "city", _("city commercial bank")

    id = models.SmallAutoField(primary_key=True)
    flag = models.ForeignKey(
        Flag, verbose_name=_("flag"), related_name="partners", on_delete=models.PROTECT
    )
    order = models.PositiveSmallIntegerField(
        _("order"), default=1, help_text=_("Partners are tried in this order.")
    )
    key = fields.key_field()
    label_zh = fields.label_field(_("name (Chinese)"))
    label_en = fields.label_field(_("name (English)"))
    kind = models.CharField(_("kind of bank"), max_length=12, choices=Kind.choices)
    is_open = models.BooleanField(
        _("open"),
        default=False,
        help_text=_("A suspended partner gives no new places; users keep those they have."),
    )
    everywhere = models.BooleanField(_("serves every region"), default=False)
    regions = ArrayField(
        models.CharField(
            max_length=6,
            validators=[RegexValidator(r"^[1-9]\d{5}$", _("Use six digits, such as 440300."))],
        ),
        verbose_name=_("regions"),
        default=list,
        blank=True,
    )
    share_ppm = fields.ppm_field(_("contribution share"), default=0)
    daily_cap = models.PositiveIntegerField(
        _("places a day"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Counted anew at midnight. Empty: only the total counts."),
    )
    total_cap = models.PositiveIntegerField(_("places in total"))
    registration = models.CharField(
        _("registration"),
        max_length=200,
        blank=True,
        default="",
        help_text=_("Where the partner is registered for this business, and its number."),
    )
    source = models.TextField(
        _("source"), blank=True, default="", help_text=_("Contract or regulation behind it.")
    )
    valid_from = models.DateField(_("valid from"), null=True, blank=True)
    valid_to = models.DateField(_("valid to"), null=True, blank=True)
    version = models.PositiveIntegerField(_("version"), default=1, editable=False)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("funding partner")
        verbose_name_plural = _("funding partners")
        ordering = ["flag", "order", "id"]
        constraints = [
            models.UniqueConstraint(fields=["flag", "key"], name="funding_partner_key"),
            models.CheckConstraint(
                name="funding_partner_share_ppm", condition=fields.ppm_within("share_ppm")
            ),
            models.CheckConstraint(
                name="funding_partner_dates",
                condition=models.Q(valid_from__isnull=True)
                | models.Q(valid_to__isnull=True)
                | models.Q(valid_from__lte=models.F("valid_to")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.flag.key}/{self.key}"


class PlacesGiven(models.Model):
    """How many places one partner gave in one rollout on one day.

    A rollout that is rolled back gives all its places back at once, by `returned_at`.
    """

    partner = models.ForeignKey(
        FundingPartner,
        verbose_name=_("funding partner"),
        related_name="given",
        on_delete=models.PROTECT,
    )
    rollout = models.ForeignKey(
        Rollout, verbose_name=_("rollout"), related_name="places_given", on_delete=models.PROTECT
    )
    day = models.DateField(_("day"))
    given = models.PositiveIntegerField(_("places given"), default=0)
    returned_at = models.DateTimeField(_("returned at"), null=True, blank=True)

    class Meta:
        verbose_name = _("places given")
        verbose_name_plural = _("places given")
        ordering = ["partner", "-day"]
        constraints = [
            models.UniqueConstraint(fields=["partner", "rollout", "day"], name="places_given_day")
        ]

    def __str__(self) -> str:
        return f"{self.partner}, {self.day}"
