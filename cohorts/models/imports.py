"""Imports of files, told by content."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from cohorts.models import fields


class ImportJob(models.Model):
    """One file's import. The offset is committed with the rows before it, so a kill loses none."""

    class Kind(models.TextChoices):
        PAYMENTS = "payments", _("payments")
        PROFILES = "profiles", _("profiles")

    class State(models.TextChoices):
        RUNNING = "running", _("running")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")

    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    file_name = models.CharField(_("file"), max_length=255)
    sha256 = models.CharField(_("SHA-256"), max_length=64)
    columns = models.JSONField(
        _("columns"), default=fields.empty_object, help_text=_("Our name: the file's name.")
    )
    state = models.CharField(_("state"), max_length=7, choices=State.choices, default=State.RUNNING)
    offset = models.BigIntegerField(_("rows read"), default=0)
    accepted = models.BigIntegerField(_("accepted"), default=0)
    duplicates = models.BigIntegerField(_("duplicates"), default=0)
    rejected = models.BigIntegerField(_("rejected"), default=0)
    report = models.TextField(_("report"), blank=True, default="")
    started_at = models.DateTimeField(_("started at"))
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    class Meta:
        verbose_name = _("import")
        verbose_name_plural = _("imports")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["kind", "sha256"], name="import_job_file"),
            models.CheckConstraint(
                name="import_job_counts",
                condition=models.Q(
                    offset=models.F("accepted") + models.F("duplicates") + models.F("rejected")
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.file_name} ({self.kind})"
