"""How many users were refused first at which step, day by day."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from rollout.models import fields


class WaterfallDay(models.Model):
    """One count of everybody for one flag on one day; sums only, nobody is named."""

    environment = fields.environment_field()
    flag_key = fields.key_field()
    day = models.DateField(_("day"))
    stage = models.CharField(_("stage"), max_length=63, blank=True, default="")
    sequence = models.BigIntegerField(_("snapshot"))
    users = models.BigIntegerField(_("users"))
    shown = models.BigIntegerField(_("shown"))
    steps = models.JSONField(_("refused first"), default=fields.empty_list)
    groups = models.JSONField(_("shares by group"), default=fields.empty_object)
    counted_at = models.DateTimeField(_("counted at"), auto_now_add=True)

    class Meta:
        verbose_name = _("waterfall of a day")
        verbose_name_plural = _("waterfalls by day")
        ordering = ["-day", "flag_key"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "flag_key", "day"], name="waterfall_once_a_day"
            )
        ]

    def __str__(self) -> str:
        return f"{self.flag_key} {self.day}"
