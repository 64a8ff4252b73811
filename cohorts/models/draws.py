"""Receipts of draws, and what is remembered of the users who took part."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from cohorts.models import fields
from huidu.model import FULL_THRESHOLD


class Draw(models.Model):
    """The receipt of one draw: enough to repeat it and get the same users."""

    subject = models.CharField(_("rollout"), max_length=120, help_text=_("Such as weilidai#1."))
    slot = models.PositiveSmallIntegerField(_("slot"))
    stage_key = models.CharField(_("stage"), max_length=63)
    salt = models.CharField(_("salt"), max_length=64)
    audience = models.JSONField(_("who was eligible"), default=fields.empty_object)
    weights = models.JSONField(_("weights"), default=fields.empty_list)
    share_ppm = fields.ppm_field(_("share"))
    population = models.BigIntegerField(_("eligible users"))
    n = models.BigIntegerField(_("users drawn"))
    previous_threshold = models.DecimalField(
        _("threshold before"), max_digits=20, decimal_places=0, default=0
    )
    threshold = models.DecimalField(_("threshold"), max_digits=20, decimal_places=0)
    strata = models.JSONField(
        _("users by weight"),
        default=fields.empty_list,
        help_text=_("Eligible and drawn users per weight, and the chance to be drawn."),
    )
    as_of = models.DateTimeField(_("facts as of"))
    formula = models.PositiveSmallIntegerField(_("formula"))
    input_hash = models.CharField(_("hash of the inputs"), max_length=64)

    class Meta:
        verbose_name = _("draw")
        verbose_name_plural = _("draws")
        ordering = ["-id"]
        indexes = [models.Index(fields=["slot", "stage_key"], name="draw_stage")]
        constraints = [
            models.CheckConstraint(
                name="draw_threshold",
                condition=models.Q(
                    previous_threshold__gte=0,
                    threshold__gte=models.F("previous_threshold"),
                    threshold__lte=FULL_THRESHOLD,
                ),
            ),
            models.CheckConstraint(
                name="draw_counts",
                condition=models.Q(n__gte=0, population__gte=models.F("n")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject}/{self.stage_key}"


class Admission(models.Model):
    """What is remembered about one user in one rollout; neither part ever shrinks.

    `weight` is the weight frozen at the draw; `admitted` says the user was drawn or shown. Users
    without a row weigh 1 and were not drawn.
    """

    class Via(models.TextChoices):
        DRAW = "draw", _("drawn")
        SHOWN = "shown", _("shown")

    pk = models.CompositePrimaryKey("user_id", "slot")
    user_id = fields.user_id_field()
    slot = models.PositiveSmallIntegerField(_("slot"))
    weight = models.PositiveSmallIntegerField(_("weight"), default=1)
    admitted = models.BooleanField(_("admitted"), default=False)
    since = models.DateTimeField(_("admitted since"), null=True, blank=True)
    via = models.CharField(_("by"), max_length=5, choices=Via.choices, blank=True, default="")

    class Meta:
        verbose_name = _("admission")
        verbose_name_plural = _("admissions")
        indexes = [models.Index(fields=["slot", "admitted"], name="admission_slot")]
        constraints = [
            models.CheckConstraint(name="admission_weight", condition=models.Q(weight__gte=1)),
            models.CheckConstraint(
                name="admission_has_its_moment",
                condition=models.Q(admitted=False, since__isnull=True)
                | models.Q(admitted=True, since__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.slot}"
