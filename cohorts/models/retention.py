"""Nights on which values that were held for their whole term are deleted."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from cohorts.models import fields


class RetentionRun(models.Model):
    """One night's deletion, batch by batch; `after` is where it goes on, empty once it is done."""

    day = models.DateField(_("night of"), unique=True)
    started_at = models.DateTimeField(_("started at"))
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    after = fields.user_id_field(blank=True, default="", editable=False)
    users = models.PositiveBigIntegerField(_("users judged"), default=0)
    erased = models.JSONField(
        _("deleted"),
        default=fields.empty_object,
        help_text=_("By attribute: values of profiles, and values of their history."),
    )

    class Meta:
        verbose_name = _("deletion at term")
        verbose_name_plural = _("deletions at term")
        ordering = ["-day"]

    def __str__(self) -> str:
        return f"{self.day}"
