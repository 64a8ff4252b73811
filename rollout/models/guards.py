"""What is measured, and what a stage must not harm."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from rollout.models import fields
from rollout.models.rollouts import Stage

USUAL_FRESH_MINUTES: Final = 60
"""How old the data of a metric without a limit of its own may be."""

MOST_FRESH_MINUTES: Final = 10_080
"""A week: no limit may let older data promote anybody."""


class Metric(models.Model):
    """One measured quantity. Its kind names the test that judges it."""

    class Kind(models.TextChoices):
        BINARY = "binary", _("users with an event")
        BINARY_DELAYED = "binary_delayed", _("users with a late event")
        USERS_RATIO = "users_ratio", _("users with a bad request")
        LATENCY = "latency", _("latency")
        MEAN = "mean", _("amount per user")
        COUNT = "count", _("events per user")
        GAUGE = "gauge", _("external reading")

    class Harm(models.TextChoices):
        INCREASE = "increase", _("more is worse")
        DECREASE = "decrease", _("less is worse")

    class Source(models.TextChoices):
        URL = "url", _("a web address that answers a number")
        PROMETHEUS = "prometheus", _("Prometheus expression")
        SQL = "sql", _("SQL on the warehouse")

    environment = fields.environment_field()
    key = fields.key_field()
    label_zh = fields.label_field(_("name (Chinese)"))
    label_en = fields.label_field(_("name (English)"))
    description = models.TextField(_("description"), blank=True, default="")
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    harm = models.CharField(_("harm"), max_length=8, choices=Harm.choices, default=Harm.INCREASE)
    unit = models.CharField(_("unit"), max_length=31, blank=True, default="")
    owner = models.CharField(_("owner"), max_length=120, blank=True, default="")
    lag = models.DurationField(
        _("arrives up to"), null=True, blank=True, help_text=_("How late an event may come.")
    )
    fresh_minutes = models.PositiveIntegerField(
        _("may be so many minutes old"),
        null=True,
        blank=True,
        help_text=_(
            "Older data promotes nobody. Empty: 60 minutes. A warehouse that is loaded once a day "
            "needs a day and the time its load takes, such as 1,560 minutes."
        ),
    )
    cap = models.FloatField(
        _("cap"),
        null=True,
        blank=True,
        help_text=_("Single users count at most this much; fixed before the stage."),
    )
    edges: ArrayField[list[float], list[float]] = ArrayField(
        models.FloatField(),
        verbose_name=_("edges (ms)"),
        default=list,
        blank=True,
        help_text=_("Latency edges, ascending, from the baseline's p50, p90, p99."),
    )
    baseline_index = models.PositiveSmallIntegerField(_("baseline edge"), null=True, blank=True)
    margin_index = models.PositiveSmallIntegerField(_("margin edge"), null=True, blank=True)
    source = models.CharField(
        _("source of external readings"),
        max_length=10,
        choices=Source.choices,
        default=Source.URL,
    )
    query = models.TextField(
        _("query"),
        blank=True,
        default="",
        help_text=_(
            "For external readings: the URL, expression or SELECT that answers one number."
        ),
    )
    fault = models.TextField(_("last reading failed"), blank=True, default="", editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("metric")
        verbose_name_plural = _("metrics")
        ordering = ["environment", "key"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "key"], name="metric_key"),
            models.CheckConstraint(
                name="metric_cap", condition=models.Q(cap__isnull=True) | models.Q(cap__gt=0)
            ),
            models.CheckConstraint(
                name="metric_fresh_minutes",
                condition=models.Q(fresh_minutes__isnull=True)
                | models.Q(fresh_minutes__range=(1, MOST_FRESH_MINUTES)),
            ),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def fresh_limit(self) -> timedelta:
        """How old data of this metric may be and still promote, or be a reading."""
        return timedelta(minutes=self.fresh_minutes or USUAL_FRESH_MINUTES)

    @property
    def from_warehouse(self) -> bool:
        """Whether a query tells what happened to users, and not events."""
        return (
            self.kind != self.Kind.GAUGE
            and self.source == self.Source.SQL
            and bool(self.query.strip())
        )


class Guard(models.Model):
    """A metric a stage must not harm: by how much at most, and what happens when it does."""

    class Role(models.TextChoices):
        STOP = "stop", _("rolls back on harm")
        MUST_PROVE = "must_prove", _("must prove to be harmless")
        WATCH = "watch", _("is only watched")

    stage = models.ForeignKey(
        Stage, verbose_name=_("stage"), related_name="guards", on_delete=models.CASCADE
    )
    metric = models.ForeignKey(
        Metric, verbose_name=_("metric"), related_name="guards", on_delete=models.PROTECT
    )
    role = models.CharField(_("role"), max_length=10, choices=Role.choices, default=Role.MUST_PROVE)
    margin_rel = models.FloatField(
        _("relative margin"),
        null=True,
        blank=True,
        help_text=_("Largest acceptable change for the worse against control; 0.05 is 5 %."),
    )
    limit_abs = models.FloatField(
        _("absolute limit"),
        null=True,
        blank=True,
        help_text=_("Instead of the margin, for stages without a control."),
    )
    maximum = models.FloatField(_("highest reading"), null=True, blank=True)
    minimum = models.FloatField(_("lowest reading"), null=True, blank=True)
    for_looks = models.PositiveSmallIntegerField(
        _("looks in a row"), default=3, help_text=_("So many breached readings are harm.")
    )

    class Meta:
        verbose_name = _("guard")
        verbose_name_plural = _("guards")
        ordering = ["stage", "metric"]
        constraints = [
            models.UniqueConstraint(fields=["stage", "metric"], name="guard_metric"),
            models.CheckConstraint(
                name="guard_margin_rel",
                condition=models.Q(margin_rel__isnull=True)
                | models.Q(margin_rel__gt=0, margin_rel__lte=10),
            ),
            models.CheckConstraint(
                name="guard_one_limit",
                condition=models.Q(margin_rel__isnull=True) | models.Q(limit_abs__isnull=True),
            ),
            models.CheckConstraint(name="guard_for_looks", condition=models.Q(for_looks__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.stage}: {self.metric.key}"
