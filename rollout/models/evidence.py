"""Who was shown what, what happened to them, and the sums the statistics read."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from rollout.models import fields
from rollout.models.guards import Metric
from rollout.models.rollouts import Rollout, Stage


class Arm(models.TextChoices):
    TREATED = "treated", _("treated")
    CONTROL = "control", _("control")


class Exposure(models.Model):
    """The first time a user was shown the flag in a stage, or passed all gates and was not drawn.

    `stratum` is the user's weight at the draw; arms are compared within it, never across.
    """

    rollout = models.ForeignKey(
        Rollout, verbose_name=_("rollout"), related_name="exposures", on_delete=models.CASCADE
    )
    stage = models.ForeignKey(
        Stage, verbose_name=_("stage"), related_name="exposures", on_delete=models.CASCADE
    )
    user_id = models.CharField(_("user"), max_length=256)
    arm = models.CharField(_("arm"), max_length=8, choices=Arm.choices)
    stratum = models.PositiveSmallIntegerField(_("weight"), default=1)
    epoch = models.PositiveSmallIntegerField(_("epoch"), default=0)
    first_at = models.DateTimeField(_("first shown at"))
    recorded_at = models.DateTimeField(_("recorded at"), auto_now_add=True)

    class Meta:
        verbose_name = _("exposure")
        verbose_name_plural = _("exposures")
        ordering = ["-id"]
        constraints = [
            # Per stage: a control user of one stage may be a treated user of the next.
            models.UniqueConstraint(fields=["stage", "user_id"], name="exposure_first")
        ]
        indexes = [
            models.Index(fields=["user_id"], name="exposure_user"),
            models.Index(fields=["stage", "first_at"], name="exposure_stage_time"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.arm}"


class OutcomeEvent(models.Model):
    """One thing that happened to a user. A repeated `event_id` is a duplicate, never counted."""

    event_id = models.CharField(_("event"), max_length=128)
    environment = fields.environment_field()
    user_id = models.CharField(_("user"), max_length=256)
    metric = models.CharField(_("metric"), max_length=63)
    value = models.FloatField(_("value"), default=1.0)
    denominator = models.FloatField(
        _("of"), null=True, blank=True, help_text=_("For ratios: requests made.")
    )
    at = models.DateTimeField(_("at"))
    recorded_at = models.DateTimeField(_("recorded at"), auto_now_add=True)

    class Meta:
        verbose_name = _("outcome event")
        verbose_name_plural = _("outcome events")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "event_id"], name="outcome_event_id")
        ]
        indexes = [
            models.Index(fields=["environment", "metric", "user_id", "at"], name="outcome_user"),
            models.Index(fields=["environment", "metric", "at"], name="outcome_time"),
        ]

    def __str__(self) -> str:
        return self.event_id


class MetricCell(models.Model):
    """What one arm of one weight class and epoch showed by the end of one hour, cumulative.

    `sums` has the shape the metric's kind needs (see `huidu.promotion`): a number of users, a list
    per latency edge, or sums and sums of squares.
    """

    stage = models.ForeignKey(
        Stage, verbose_name=_("stage"), related_name="cells", on_delete=models.CASCADE
    )
    metric = models.ForeignKey(
        Metric, verbose_name=_("metric"), related_name="cells", on_delete=models.CASCADE
    )
    arm = models.CharField(_("arm"), max_length=8, choices=Arm.choices)
    stratum = models.PositiveSmallIntegerField(_("weight"))
    epoch = models.PositiveSmallIntegerField(_("epoch"), default=0)
    hour = models.DateTimeField(_("hour"))
    users = models.BigIntegerField(_("users enrolled"), default=0)
    sums = models.JSONField(_("sums"), default=fields.empty_object)
    complete_to = models.DateTimeField(_("complete up to"), null=True, blank=True)

    class Meta:
        verbose_name = _("metric cell")
        verbose_name_plural = _("metric cells")
        ordering = ["stage", "metric", "hour"]
        constraints = [
            models.UniqueConstraint(
                fields=["stage", "metric", "arm", "stratum", "epoch", "hour"],
                name="metric_cell_key",
            )
        ]

    def __str__(self) -> str:
        return f"{self.stage_id}/{self.metric_id} {self.arm} {self.stratum}"
