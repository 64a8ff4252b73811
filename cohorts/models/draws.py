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


class DrawJob(models.Model):
    """A draw from so many users that no request waits for it; a worker judges them part by part.

    Nothing is shown by it before its stage is entered with it, in one transaction.
    """

    class State(models.TextChoices):
        JUDGING = "judging", _("judging users")
        READY = "ready", _("drawn, not entered yet")
        REMEMBERING = "remembering", _("entered, being written down")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    subject = models.CharField(_("rollout"), max_length=120)
    slot = models.PositiveSmallIntegerField(_("slot"))
    stage_key = models.CharField(_("stage"), max_length=63)
    plan = models.JSONField(_("plan"), help_text=_("What the draw depends on besides the facts."))
    inputs = models.CharField(_("hash of the plan"), max_length=64)
    then = models.JSONField(_("step"), help_text=_("Whose step it is, and why."))
    share_ppm = fields.ppm_field(_("share"))
    state = models.CharField(_("state"), max_length=11, choices=State.choices)
    judged = models.BigIntegerField(_("users judged"), default=0)
    users = models.BigIntegerField(_("users in all"), help_text=_("About."))
    eligible = models.BigIntegerField(_("eligible users"), default=0)
    after = models.CharField(max_length=fields.MAX_ID_CHARACTERS, blank=True, default="")
    remembered = models.BigIntegerField(default=0, editable=False)  # the last part written down
    receipt = models.ForeignKey(
        Draw, verbose_name=_("receipt"), null=True, on_delete=models.PROTECT, related_name="jobs"
    )
    problem = models.TextField(_("problem"), blank=True, default="")
    begun_at = models.DateTimeField(_("begun at"))
    finished_at = models.DateTimeField(_("finished at"), null=True)

    class Meta:
        verbose_name = _("draw job")
        verbose_name_plural = _("draw jobs")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["slot"],
                condition=models.Q(state__in=["judging", "ready", "remembering"]),
                name="draw_job_one_at_a_time",
            )
        ]

    def __str__(self) -> str:
        return f"{self.subject}/{self.stage_key}"


class DrawPart(models.Model):
    """Some eligible users of a job by user id, a line each, with weights and members."""

    job = models.ForeignKey(DrawJob, related_name="parts", on_delete=models.CASCADE)
    users = models.TextField()
    weights = models.BinaryField()  # two bytes a user, little-endian
    members = models.BinaryField()  # one byte a user

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.job_id}/{self.pk}"


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
