"""Uploads of user lists: what each one would change, and what it did change."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from cohorts.models import fields
from cohorts.models.cohorts import MEMBER_STATES, ListState, UserList


class ListVersion(models.Model):
    """One uploaded file, compared with the list as it was at `base`.

    Only the differences are kept (`ListBlock`), so ten versions of a long list cost ten
    differences, and the newest one can be taken back by undoing its own.
    """

    class Mode(models.TextChoices):
        REPLACE = "replace", _("the list becomes this file")
        ADD = "add", _("these users are added")
        REMOVE = "remove", _("these users are removed")

    class State(models.TextChoices):
        COMPARING = "comparing", _("being compared")
        READY = "ready", _("compared, not applied")
        APPLYING = "applying", _("being applied")
        APPLIED = "applied", _("applied")
        REVERTING = "reverting", _("being reverted")
        REVERTED = "reverted", _("reverted")
        DISCARDED = "discarded", _("discarded")
        FAILED = "failed", _("cannot be read")

    list = models.ForeignKey(
        UserList, verbose_name=_("user list"), related_name="versions", on_delete=models.CASCADE
    )
    mode = models.CharField(
        _("what the file means"), max_length=7, choices=Mode.choices, default=Mode.REPLACE
    )
    encoding = models.CharField(_("encoding"), max_length=7, default="utf-8")
    member_state = models.CharField(
        _("users without a state are"),
        max_length=8,
        choices=[(each.value, each.label) for each in MEMBER_STATES],
        default=ListState.ACCEPTED,
    )
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.READY)
    file_name = models.CharField(_("file"), max_length=255)
    sha256 = models.CharField(_("SHA-256"), max_length=64)
    size_bytes = models.BigIntegerField(_("bytes of the file"), default=0)
    bytes_read = models.BigIntegerField(_("bytes read"), default=0)
    uploaded_by = models.CharField(_("uploaded by"), max_length=200)
    uploaded_at = models.DateTimeField(_("uploaded at"))
    base = models.PositiveIntegerField(_("compared with version"), default=0)
    users = models.BigIntegerField(_("users in the file"), default=0)
    added = models.BigIntegerField(_("added"), default=0)
    removed = models.BigIntegerField(_("removed"), default=0)
    changed = models.BigIntegerField(_("in another state"), default=0)
    unchanged = models.BigIntegerField(_("unchanged"), default=0)
    duplicates = models.BigIntegerField(_("repeated lines"), default=0)
    empty = models.BigIntegerField(_("empty lines"), default=0)
    invalid = models.BigIntegerField(_("invalid lines"), default=0)
    faults = models.JSONField(
        _("first invalid lines"),
        default=fields.empty_list,
        help_text=_("Line and reason; what stood there is not kept."),
    )
    problem = models.TextField(_("problem"), blank=True, default="")
    # How far it is applied or reverted: the last block whose users moved, the last one packed.
    done = models.BigIntegerField(_("users done"), default=0)
    done_block = models.BigIntegerField(default=0, editable=False)
    packed = models.BigIntegerField(_("profiles packed"), default=0)
    packed_block = models.BigIntegerField(default=0, editable=False)
    applied_as = models.PositiveIntegerField(_("version of the list"), null=True)
    applied_at = models.DateTimeField(_("applied at"), null=True)
    reverted_at = models.DateTimeField(_("reverted at"), null=True)
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


class ListPart(models.Model):
    """A piece of a file that waits to be compared, so that any host's worker can do it."""

    version = models.ForeignKey(ListVersion, related_name="parts", on_delete=models.CASCADE)
    seq = models.IntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["version", "seq"], name="list_part_seq")]

    def __str__(self) -> str:
        return f"{self.version_id}/{self.seq}"


class ListBlock(models.Model):
    """Some thousand users whom a version adds, removes or moves to another state, by user id.

    One line a user; the columns after the id (see `cohorts.list_blocks`) are left out where all of
    them are what the version says anyway. A row a user would take ten times the room and time.
    """

    class Kind(models.TextChoices):
        ADDED = "added", _("added")
        CHANGED = "changed", _("in another state")
        REMOVED = "removed", _("removed")

    version = models.ForeignKey(
        ListVersion, related_name="blocks", on_delete=models.CASCADE, db_index=False
    )
    kind = models.CharField(max_length=7, choices=Kind.choices)
    first = models.CharField(max_length=fields.MAX_ID_CHARACTERS, db_collation="C")
    last = models.CharField(max_length=fields.MAX_ID_CHARACTERS, db_collation="C")
    users = models.IntegerField()
    lines = models.TextField()

    class Meta:
        indexes = [models.Index(fields=["version", "kind", "last"], name="list_block_users")]

    def __str__(self) -> str:
        return f"{self.version_id} {self.kind} {self.first}..{self.last}"


class ListRejects(models.Model):
    """Some invalid lines of a version, as CSV without its header: line and reason."""

    version = models.ForeignKey(ListVersion, related_name="rejects", on_delete=models.CASCADE)
    lines = models.TextField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.version_id}"


class ListEvent(models.Model):
    """One user's move on a list that no upload made: by the API, or by an invitation's end."""

    list = models.ForeignKey(
        UserList, related_name="events", on_delete=models.CASCADE, db_index=False
    )
    user_id = fields.user_id_field()
    state = models.CharField(_("state"), max_length=8, choices=ListState.choices)
    at = models.DateTimeField(_("at"))
    by = models.CharField(_("by"), max_length=200, blank=True, default="")

    class Meta:
        verbose_name = _("list event")
        verbose_name_plural = _("list events")
        indexes = [
            models.Index(fields=["user_id", "list", "at"], name="list_event_user"),
            models.Index(
                fields=["list"],
                condition=models.Q(state=ListState.EXPIRED.value),
                name="list_event_expired",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.state}"
