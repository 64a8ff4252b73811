"""What was decided about a stage at one look, with everything needed to decide it again."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from rollout.models import fields
from rollout.models.rollouts import Stage


class Decision(models.Model):
    """One look. `plan`, `state`, `evidence` and `code_version` replay to the same `outcome`."""

    class Verdict(models.TextChoices):
        HOLD = "hold", _("hold")
        PROMOTE = "promote", _("promote")
        ROLL_BACK = "roll_back", _("roll back")

    stage = models.ForeignKey(
        Stage, verbose_name=_("stage"), related_name="decisions", on_delete=models.CASCADE
    )
    look = models.PositiveIntegerField(_("look"))
    at = models.DateTimeField(_("at"))
    decision = models.CharField(_("decision"), max_length=10, choices=Verdict.choices)
    code = models.CharField(_("reason code"), max_length=63, blank=True, default="")
    metric = models.CharField(_("metric"), max_length=63, blank=True, default="")
    text = models.TextField(_("reason"), blank=True, default="")
    reasons = models.JSONField(_("reasons"), default=fields.empty_list, blank=True)
    plan = models.JSONField(_("plan"), default=fields.empty_object)
    state = models.JSONField(
        _("state before"), default=fields.empty_object, help_text=_("As it was before this look.")
    )
    state_after = models.JSONField(_("state after"), default=fields.empty_object)
    evidence = models.JSONField(_("evidence"), default=fields.empty_object)
    outcome = models.JSONField(_("outcome"), default=fields.empty_object)
    ramp = models.JSONField(
        _("ramp"),
        null=True,
        blank=True,
        help_text=_("Where the stage stood in its ramp, and whether its share was to grow."),
    )
    dry_run = models.BooleanField(
        _("without acting"), default=False, help_text=_("Decided to be recorded, not to act.")
    )
    code_version = models.CharField(_("code version"), max_length=63)
    acted = models.BooleanField(
        _("acted upon"), default=False, help_text=_("This look moved the rollout.")
    )
    by = models.CharField(_("by"), max_length=150, default="engine")

    class Meta:
        verbose_name = _("decision")
        verbose_name_plural = _("decisions")
        ordering = ["-at", "-id"]
        constraints = [models.UniqueConstraint(fields=["stage", "look"], name="decision_look")]
        indexes = [models.Index(fields=["-at"], name="decision_at")]

    def __str__(self) -> str:
        return f"{self.stage} #{self.look} {self.decision}"
