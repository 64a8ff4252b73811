"""Uploads of user lists: what each one would change, and what it did change."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from cohorts.models import fields
from cohorts.models.cohorts import UserList


class ListVersion(models.Model):
    """One uploaded file, compared with the list as it was at `base`.

    Only the differences are kept (`ListChange`), so ten versions of a long list cost ten
    differences, and the newest one can be taken back by undoing its own.
    """

    class Mode(models.TextChoices):
        REPLACE = "replace", _("the list becomes this file")
        ADD = "add", _("these users are added")
        REMOVE = "remove", _("these users are removed")

    class State(models.TextChoices):
        READY = "ready", _("compared, not applied")
        APPLYING = "applying", _("being applied")
        APPLIED = "applied", _("applied")
        REVERTING = "reverting", _("being reverted")
        REVERTED = "reverted", _("reverted")
        DISCARDED = "discarded", _("discarded")

    list = models.ForeignKey(
        UserList, verbose_name=_("user list"), related_name="versions", on_delete=models.CASCADE
    )
    mode = models.CharField(
        _("what the file means"), max_length=7, choices=Mode.choices, default=Mode.REPLACE
    )
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.READY)
    file_name = models.CharField(_("file"), max_length=255)
    sha256 = models.CharField(_("SHA-256"), max_length=64)
    uploaded_by = models.CharField(_("uploaded by"), max_length=200)
    uploaded_at = models.DateTimeField(_("uploaded at"))
    base = models.PositiveIntegerField(_("compared with version"))
    users = models.BigIntegerField(_("users in the file"))
    added = models.BigIntegerField(_("added"))
    removed = models.BigIntegerField(_("removed"))
    unchanged = models.BigIntegerField(_("unchanged"))
    duplicates = models.BigIntegerField(_("repeated lines"))
    empty = models.BigIntegerField(_("empty lines"))
    invalid = models.BigIntegerField(_("invalid lines"))
    faults = models.JSONField(
        _("first invalid lines"),
        default=fields.empty_list,
        help_text=_("Line and reason; what stood there is not kept."),
    )
    done_to = models.CharField(max_length=fields.MAX_ID_CHARACTERS, blank=True, default="")
    done = models.BigIntegerField(_("users done"), default=0)
    applied_as = models.PositiveIntegerField(_("version of the list"), null=True)
    finished_at = models.DateTimeField(_("finished at"), null=True)

    class Meta:
        verbose_name = _("list version")
        verbose_name_plural = _("list versions")
        ordering = ["-id"]
        constraints = [
            # Two at a time would each count users the other one moves.
            models.UniqueConstraint(
                fields=["list"],
                condition=models.Q(state__in=["applying", "reverting"]),
                name="list_version_one_at_a_time",
            )
        ]

    def __str__(self) -> str:
        return f"{self.list.key} #{self.pk}"


class ListChange(models.Model):
    """One user whom a version adds or removes."""

    pk = models.CompositePrimaryKey("version_id", "user_id")
    version = models.ForeignKey(ListVersion, related_name="changes", on_delete=models.CASCADE)
    user_id = fields.user_id_field()
    added = models.BooleanField(_("added"))

    class Meta:
        verbose_name = _("list change")
        verbose_name_plural = _("list changes")
        indexes = [models.Index(fields=["user_id"], name="list_change_user")]

    def __str__(self) -> str:
        return f"{'+' if self.added else '-'} {self.user_id}"
