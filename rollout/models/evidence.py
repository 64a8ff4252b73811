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
    `chance_ppb` is the probability that a user enrolled in the same way is treated, in parts per
    billion: it follows from the thresholds and ceilings that applied to the user.
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
    chance_ppb = models.PositiveIntegerField(_("chance to be treated (ppb)"), default=0)
    first_at = models.DateTimeField(_("first shown at"))
    recorded_at = models.DateTimeField(_("recorded at"), auto_now_add=True)

    class Meta:
        verbose_name = _("exposure")
        verbose_name_plural = _("exposures")
        ordering = ["-id"]
        constraints = [
            # Per epoch: a control user of one stage, or share, may be a treated user of the next.
            models.UniqueConstraint(fields=["stage", "user_id", "epoch"], name="exposure_first"),
            models.CheckConstraint(
                name="exposure_chance", condition=models.Q(chance_ppb__lte=1_000_000_000)
            ),
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
    """What was known of one arm of one cell by the end of one hour, cumulative.

    A row without metric counts the enrolled users. A row of a metric counts in `users` those with a
    reading, and holds in `sums` a list of numbers, as `rollout.services.sums` orders them by kind.
    An hour in which nothing came has no row; `latest` marks the newest of each series.
    """

    stage = models.ForeignKey(
        Stage, verbose_name=_("stage"), related_name="cells", on_delete=models.CASCADE
    )
    metric = models.ForeignKey(
        Metric, verbose_name=_("metric"), related_name="cells", null=True, on_delete=models.CASCADE
    )
    arm = models.CharField(_("arm"), max_length=8, choices=Arm.choices)
    stratum = models.PositiveSmallIntegerField(_("weight"))
    epoch = models.PositiveSmallIntegerField(_("epoch"), default=0)
    chance_ppb = models.PositiveIntegerField(_("chance to be treated (ppb)"), default=0)
    hour = models.DateTimeField(_("hour"))
    latest = models.BooleanField(_("latest"), default=True)
    users = models.BigIntegerField(_("users"), default=0)
    sums = models.JSONField(_("sums"), default=fields.empty_list)
    complete_to = models.DateTimeField(_("complete up to"), null=True, blank=True)

    class Meta:
        verbose_name = _("metric cell")
        verbose_name_plural = _("metric cells")
        ordering = ["stage", "metric", "hour"]
        constraints = [
            models.UniqueConstraint(
                fields=["stage", "metric", "arm", "stratum", "epoch", "chance_ppb", "hour"],
                name="metric_cell_key",
                nulls_distinct=False,
            )
        ]
        indexes = [
            models.Index(
                fields=["stage"], name="metric_cell_latest", condition=models.Q(latest=True)
            )
        ]

    def __str__(self) -> str:
        return f"{self.stage_id}/{self.metric_id} {self.arm} {self.stratum}"


class RollupMark(models.Model):
    """How far a stage's raw rows were rolled up: into a metric's cells, or into those of enrolment.

    Without metric it is about enrolment. It moves in the transaction that moves the cells.

    `complete_to`: up to when the metric's source was complete when `rolled_at` looked; NULL: it
    never sent anything.
    """

    stage = models.ForeignKey(Stage, related_name="marks", on_delete=models.CASCADE)
    metric = models.ForeignKey(Metric, related_name="+", null=True, on_delete=models.CASCADE)
    exposures = models.BigIntegerField(default=0)
    outcomes = models.BigIntegerField(default=0)
    complete_to = models.DateTimeField(null=True)
    rolled_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["stage", "metric"], name="rollup_mark_key", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"{self.stage_id}/{self.metric_id}"


class StreamMark(models.Model):
    """The last entry of a Redis stream whose content is in the database, written with it."""

    name = models.CharField(max_length=100, primary_key=True)
    entry = models.CharField(max_length=41, default="0-0")

    def __str__(self) -> str:
        return f"{self.name} {self.entry}"


class Feed(models.Model):
    """Up to when a source of outcomes has said it is complete; an event of its own tells more."""

    environment = fields.environment_field()
    metric = models.CharField(_("metric"), max_length=63)
    complete_to = models.DateTimeField(_("complete up to"))
    recorded_at = models.DateTimeField(_("recorded at"), auto_now=True)

    class Meta:
        verbose_name = _("feed")
        verbose_name_plural = _("feeds")
        constraints = [models.UniqueConstraint(fields=["environment", "metric"], name="feed_key")]

    def __str__(self) -> str:
        return f"{self.environment}/{self.metric}"
