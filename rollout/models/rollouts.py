"""One journey of a flag, and its stages."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from huidu.model import FULL_THRESHOLD, RolloutStatus
from rollout.models import fields
from rollout.models.flags import Flag


class Rollout(models.Model):
    """One journey: stages in order, one salt, one slot in every user's packed profile.

    A rollout *in effect* decides who is shown the flag; a flag has at most one.
    """

    class Status(models.TextChoices):
        DRAFT = RolloutStatus.DRAFT.value, _("draft")
        AWAITING_APPROVAL = RolloutStatus.AWAITING_APPROVAL.value, _("awaiting approval")
        RUNNING = RolloutStatus.RUNNING.value, _("running")
        PAUSED = RolloutStatus.PAUSED.value, _("paused")
        COMPLETED = RolloutStatus.COMPLETED.value, _("completed")
        ROLLED_BACK = RolloutStatus.ROLLED_BACK.value, _("rolled back")
        KILLED = RolloutStatus.KILLED.value, _("killed")

    IN_EFFECT = (Status.RUNNING, Status.PAUSED, Status.COMPLETED, Status.KILLED)

    flag = models.ForeignKey(
        Flag, verbose_name=_("flag"), related_name="rollouts", on_delete=models.PROTECT
    )
    name = models.CharField(_("name"), max_length=120, blank=True, default="")
    slot = models.PositiveSmallIntegerField(
        _("slot"), unique=True, editable=False, help_text=_("Its number in packed profiles.")
    )
    salt = models.CharField(_("salt"), max_length=64, default=fields.new_salt, editable=False)
    status = models.CharField(
        _("status"), max_length=20, choices=Status.choices, default=Status.DRAFT, editable=False
    )
    current = models.ForeignKey(
        "rollout.Stage",
        verbose_name=_("current stage"),
        related_name="+",
        null=True,
        blank=True,
        editable=False,
        on_delete=models.PROTECT,
    )
    sticky = models.BooleanField(
        _("keep the drawn weight"),
        default=True,
        help_text=_("Users keep the weight they were drawn with; right for money and credit."),
    )
    time_scale = models.FloatField(
        _("clock runs faster by"),
        default=1.0,
        help_text=_("1 is real time. Above 1 a demonstration: stays and looks pass faster."),
    )
    dry_run = models.BooleanField(
        _("decides without acting"),
        default=False,
        help_text=_("Decisions are recorded, and nobody is promoted or rolled back by them."),
    )
    created_by = models.CharField(_("created by"), max_length=150, blank=True, default="")
    submitted_by = models.CharField(
        _("submitted by"), max_length=150, blank=True, default="", editable=False
    )
    approved_by = models.CharField(
        _("approved by"), max_length=150, blank=True, default="", editable=False
    )
    approved_at = models.DateTimeField(_("approved at"), null=True, blank=True, editable=False)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True, editable=False)
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True, editable=False)
    ended_reason = models.TextField(_("why it ended"), blank=True, default="", editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("rollout")
        verbose_name_plural = _("rollouts")
        ordering = ["flag", "-slot"]
        constraints = [
            models.UniqueConstraint(
                fields=["flag"],
                name="rollout_one_in_effect",
                condition=models.Q(status__in=["running", "paused", "completed", "killed"]),
            ),
            models.CheckConstraint(
                name="rollout_time_scale",
                condition=models.Q(time_scale__gte=1, time_scale__lte=1_000_000),
            ),
            models.CheckConstraint(
                name="rollout_approved_by_another",
                condition=models.Q(approved_by="")
                | ~models.Q(approved_by=models.F("submitted_by")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.flag.key}#{self.slot}"


class Stage(models.Model):
    """One step of a rollout: whom it addresses, how far its draw reaches, what it must prove."""

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        RUNNING = "running", _("running")
        DONE = "done", _("done")

    rollout = models.ForeignKey(
        Rollout, verbose_name=_("rollout"), related_name="stages", on_delete=models.CASCADE
    )
    order = models.PositiveSmallIntegerField(_("order"))
    key = fields.key_field()
    label_zh = fields.label_field(_("name (Chinese)"))
    label_en = fields.label_field(_("name (English)"))
    audience = models.ForeignKey(
        "cohorts.Cohort",
        verbose_name=_("audience"),
        related_name="stages",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        help_text=_("Empty: everybody who passes the gates."),
    )
    audience_why = models.CharField(
        _("reason code outside the audience"),
        max_length=63,
        default="tier.not_in_stage",
        validators=[fields.valid_code],
    )
    share_ppm = fields.ppm_field(_("share"))
    ramp = models.JSONField(
        _("ramp"),
        default=fields.empty_list,
        blank=True,
        help_text=_(
            "Larger shares to come inside this stage, as "
            '[{"share_ppm": 10000, "after_minutes": 1440, "users": 200}].'
        ),
    )
    holdback = models.BooleanField(
        _("keeps a holdback"),
        default=False,
        help_text=_(
            "The last stage: whoever is not drawn is held back, so that evidence does not end."
        ),
    )
    weights = models.JSONField(
        _("weights"),
        default=fields.empty_list,
        blank=True,
        help_text=_('First match wins, else 1, as [{"rule": {...}, "weight": 3}].'),
    )
    payload = models.JSONField(_("payload"), default=fields.empty_object, blank=True)
    minimum_stay = models.DurationField(_("minimum stay"), default=timedelta(days=7))
    maximum_stay = models.DurationField(
        _("maximum stay"),
        default=timedelta(days=28),
        help_text=_("Evidence is planned for this time; afterwards the stage holds."),
    )
    minimum_users = models.PositiveIntegerField(_("minimum treated users"), default=0)
    needs_approval = models.BooleanField(
        _("a person promotes"),
        default=False,
        help_text=_("When the evidence is there, a second person must still approve."),
    )
    approved_by = models.CharField(
        _("promotion approved by"), max_length=150, blank=True, default="", editable=False
    )
    planned_at = models.DateTimeField(_("planned for"), null=True, blank=True)
    waiver = models.TextField(
        _("why no guard"),
        blank=True,
        default="",
        help_text=_("A stage without guards is promoted only with a reason here."),
    )
    waiver_by = models.CharField(
        _("waiver signed by"), max_length=150, blank=True, default="", editable=False
    )
    dry_run = models.BooleanField(
        _("decides without acting"),
        default=False,
        help_text=_("Looks are decided and recorded, and move nothing."),
    )
    accepted: ArrayField[list[str], list[str]] = ArrayField(
        models.CharField(max_length=63),
        verbose_name=_("accepted hold reasons"),
        default=list,
        blank=True,
    )
    alpha_rollback = models.FloatField(_("false rollbacks at most"), default=0.05)
    alpha_promote = models.FloatField(_("false promotions at most"), default=0.05)
    look_minutes = models.PositiveSmallIntegerField(_("minutes between looks"), default=5)
    early_minutes = models.PositiveSmallIntegerField(
        _("minutes with a look every minute"), default=30, editable=False
    )
    promotion_minutes = models.PositiveSmallIntegerField(
        _("minutes between promotion looks"), default=1440
    )
    status = models.CharField(
        _("status"), max_length=8, choices=Status.choices, default=Status.PENDING, editable=False
    )
    entered_at = models.DateTimeField(_("entered at"), null=True, blank=True, editable=False)
    left_at = models.DateTimeField(_("left at"), null=True, blank=True, editable=False)
    threshold = models.DecimalField(
        _("threshold"), max_digits=20, decimal_places=0, null=True, blank=True, editable=False
    )
    drawn_at = models.DateTimeField(_("drawn at"), null=True, blank=True, editable=False)
    population = models.BigIntegerField(
        _("eligible users at the draw"), null=True, blank=True, editable=False
    )
    drawn = models.BigIntegerField(_("users drawn"), null=True, blank=True, editable=False)
    strata = models.JSONField(
        _("users by weight"),
        default=fields.empty_object,
        blank=True,
        editable=False,
        help_text=_("Eligible and drawn users per weight, and the chance to be drawn."),
    )
    epoch = models.PositiveSmallIntegerField(_("epoch"), default=0, editable=False)

    class Meta:
        verbose_name = _("stage")
        verbose_name_plural = _("stages")
        ordering = ["rollout", "order"]
        constraints = [
            models.UniqueConstraint(fields=["rollout", "key"], name="stage_key"),
            models.UniqueConstraint(
                fields=["rollout", "order"],
                name="stage_order",
                deferrable=models.Deferrable.DEFERRED,
            ),
            models.UniqueConstraint(
                fields=["rollout"],
                name="stage_one_running",
                condition=models.Q(status="running"),
            ),
            models.CheckConstraint(
                name="stage_share_ppm", condition=fields.ppm_within("share_ppm")
            ),
            models.CheckConstraint(
                name="stage_threshold",
                condition=models.Q(threshold__isnull=True)
                | models.Q(threshold__gte=0, threshold__lte=FULL_THRESHOLD),
            ),
            models.CheckConstraint(
                name="stage_running_has_threshold",
                condition=models.Q(status="pending")
                | models.Q(threshold__isnull=False, entered_at__isnull=False),
            ),
            models.CheckConstraint(
                name="stage_stay",
                condition=models.Q(minimum_stay__gte=timedelta(0))
                & models.Q(minimum_stay__lte=models.F("maximum_stay")),
            ),
            models.CheckConstraint(
                name="stage_alphas",
                condition=models.Q(alpha_rollback__gt=0, alpha_rollback__lte=0.5)
                & models.Q(alpha_promote__gt=0, alpha_promote__lte=0.5),
            ),
            models.CheckConstraint(
                name="stage_look_minutes",
                condition=models.Q(look_minutes__gte=1, promotion_minutes__gte=1),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rollout}/{self.key}"

    @property
    def full_share_ppm(self) -> int:
        """The share this stage ends with: that of its ramp's last step, else its own."""
        return max([self.share_ppm, *(int(each["share_ppm"]) for each in self.ramp)])

    @property
    def decides_only(self) -> bool:
        """Whether its decisions are recorded and not carried out."""
        return bool(self.dry_run or self.rollout.dry_run)
