"""What was published, and what must still follow a commit."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from rollout.models import fields


class Snapshot(models.Model):
    """One publication, never changed (a trigger refuses it): every past answer can be replayed.

    Only a person who is forgotten is taken out of it; see `rollout.services.redaction`.
    """

    environment = fields.environment_field()
    sequence = models.BigIntegerField(_("sequence"))
    version = models.CharField(_("version"), max_length=64, help_text=_("Hash of its content."))
    blob = models.BinaryField(_("content"))
    published_at = models.DateTimeField(_("published at"))
    cause = models.TextField(_("cause"), blank=True, default="")
    by = models.CharField(_("by"), max_length=150, blank=True, default="")
    redacted_at = models.DateTimeField(_("a user was taken out on"), null=True, blank=True)

    class Meta:
        verbose_name = _("snapshot")
        verbose_name_plural = _("snapshots")
        ordering = ["environment", "-sequence"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "sequence"], name="snapshot_sequence"),
            models.CheckConstraint(
                name="snapshot_sequence_positive", condition=models.Q(sequence__gte=1)
            ),
        ]
        indexes = [models.Index(fields=["environment", "-published_at"], name="snapshot_time")]

    def __str__(self) -> str:
        return f"{self.environment}@{self.sequence}"


class Outbox(models.Model):
    """What must follow a commit: written in the same transaction, drained after it."""

    class Kind(models.TextChoices):
        SNAPSHOT = "snapshot", _("publish the snapshot")
        ACCESS = "access", _("publish the keys")
        WEBHOOK = "webhook", _("deliver a webhook")

    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    environment = fields.environment_field()
    cause = models.TextField(_("cause"), blank=True, default="")
    by = models.CharField(_("by"), max_length=150, blank=True, default="")
    payload = models.JSONField(_("payload"), default=fields.empty_object, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    error = models.TextField(_("last error"), blank=True, default="")
    done_at = models.DateTimeField(_("done at"), null=True, blank=True)

    class Meta:
        verbose_name = _("outbox entry")
        verbose_name_plural = _("outbox")
        ordering = ["id"]
        indexes = [
            models.Index(
                fields=["kind", "environment", "id"],
                name="outbox_waiting",
                condition=models.Q(done_at__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.environment}"
