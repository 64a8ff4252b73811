"""What the platform holds about a user. NULL is unknown everywhere, never false or 0."""

from __future__ import annotations

import datetime

from django.db import models
from django.utils.translation import gettext_lazy as _

from cohorts.models import fields

FIRST_DAY = datetime.date(1970, 1, 1)
LAST_DAY = datetime.date(2149, 6, 6)
"""Days a packed profile can hold: 16 bits, counted from `FIRST_DAY`."""


class Profile(models.Model):
    """One user. Column names are the names of the built-in attributes."""

    user_id = fields.user_id_field(primary_key=True)
    region = models.CharField(
        _("region"), max_length=6, null=True, blank=True, help_text=_("GB/T 2260, six digits.")
    )
    staff = models.BooleanField(_("staff"), null=True, blank=True)
    friends = models.PositiveIntegerField(_("friends"), null=True, blank=True)
    assets_cny = fields.money_field(_("assets (CNY)"), null=True, blank=True)
    yearly_spend_cny = fields.money_field(_("yearly spend (CNY)"), null=True, blank=True)
    risk_score = models.DecimalField(
        _("risk score"), max_digits=5, decimal_places=2, null=True, blank=True
    )
    risk_scored_on = models.DateField(_("risk scored on"), null=True, blank=True)
    registered_at = models.DateField(_("registered on"), null=True, blank=True)
    age = models.PositiveSmallIntegerField(_("age"), null=True, blank=True)
    student = models.BooleanField(_("student"), null=True, blank=True)
    consent = models.BooleanField(_("consent given"), null=True, blank=True)
    invited = models.BooleanField(_("invited"), null=True, blank=True)
    holds_fenfu = models.BooleanField(_("holds 分付"), null=True, blank=True)
    applied_fenfu_at = models.DateField(_("applied for 分付 on"), null=True, blank=True)
    emulator = models.BooleanField(_("emulator or cloned app"), null=True, blank=True)
    wifi_risk = models.DecimalField(
        _("network risk"), max_digits=5, decimal_places=2, null=True, blank=True
    )
    scripted = models.BooleanField(_("scripted behaviour"), null=True, blank=True)
    outstanding_balance_cny = fields.money_field(
        _("outstanding balance (CNY)"), null=True, blank=True
    )
    optout = models.BooleanField(_("opted out"), null=True, blank=True)
    attributes = models.JSONField(
        _("custom attributes"),
        default=fields.empty_object,
        blank=True,
        help_text=_("By name; a missing one is unknown."),
    )
    updated_at = models.DateTimeField(_("updated at"))

    class Meta:
        verbose_name = _("profile")
        verbose_name_plural = _("profiles")
        permissions = [("read_sensitive_profile", _("Can read protected values of users"))]
        ordering = ["user_id"]
        constraints = [
            models.CheckConstraint(name="profile_user_id", condition=~models.Q(user_id="")),
            models.CheckConstraint(
                name="profile_region", condition=fields.unknown_or("region", regex=r"^[0-9]{6}$")
            ),
            models.CheckConstraint(name="profile_age", condition=fields.unknown_or("age", lte=150)),
            models.CheckConstraint(
                name="profile_money",
                condition=fields.unknown_or("assets_cny", gte=0)
                & fields.unknown_or("yearly_spend_cny", gte=0)
                & fields.unknown_or("outstanding_balance_cny", gte=0),
            ),
            models.CheckConstraint(
                name="profile_scores",
                condition=fields.unknown_or("risk_score", gte=0, lte=100)
                & fields.unknown_or("wifi_risk", gte=0, lte=100),
            ),
            models.CheckConstraint(
                name="profile_risk_has_its_day",
                condition=models.Q(risk_score__isnull=True, risk_scored_on__isnull=True)
                | models.Q(risk_score__isnull=False, risk_scored_on__isnull=False),
            ),
            models.CheckConstraint(
                name="profile_days",
                condition=fields.unknown_or("registered_at", gte=FIRST_DAY, lte=LAST_DAY)
                & fields.unknown_or("applied_fenfu_at", gte=FIRST_DAY, lte=LAST_DAY)
                & fields.unknown_or("risk_scored_on", gte=FIRST_DAY, lte=LAST_DAY),
            ),
        ]

    def __str__(self) -> str:
        return self.user_id


class ProfileHistory(models.Model):
    """What changed in a profile at one moment: the new values by attribute name, null for unknown.

    Replaying a user's rows in order gives the facts of any past moment. A value whose term was over
    is taken out of `changes`, and its name put into `erased`: it was held, and nobody knows it.
    """

    user_id = fields.user_id_field()
    at = models.DateTimeField(_("at"))
    changes = models.JSONField(_("changes"))
    erased = models.JSONField(_("no longer held"), null=True, blank=True)

    class Meta:
        verbose_name = _("profile change")
        verbose_name_plural = _("profile changes")
        indexes = [models.Index(fields=["user_id", "at", "id"], name="profile_history_user")]

    def __str__(self) -> str:
        return f"{self.user_id} at {self.at:%Y-%m-%d %H:%M:%S}"


class DirtyProfile(models.Model):
    """The outbox of packed profiles: this user's record in Redis is older than the rows here.

    `mark` is drawn anew at every change. A packer deletes the row only if the mark is still the one
    it saw before it read the facts, so a change during packing is never lost. Packers take turns by
    `lane`, a fixed eighth of all users.
    """

    user_id = fields.user_id_field(primary_key=True)
    lane = models.SmallIntegerField()
    mark = models.BigIntegerField()
    since = models.DateTimeField()

    class Meta:
        verbose_name = _("profile to pack")
        verbose_name_plural = _("profiles to pack")
        # Not by mark: a new mark of a user who waits already then touches no index.
        indexes = [models.Index(fields=["lane"], name="dirty_profile_of_lane")]

    def __str__(self) -> str:
        return self.user_id
