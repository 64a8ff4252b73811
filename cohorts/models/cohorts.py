"""Named audiences: cohorts by rule, lists by name."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from cohorts.models import fields


class Cohort(models.Model):
    """Users who match a rule, plus a few named ones, minus a few others."""

    key = fields.key_field(unique=True)
    label_zh = fields.label_field(_("name (Chinese)"))
    label_en = fields.label_field(_("name (English)"))
    description = models.TextField(_("description"), blank=True, default="")
    rule = models.JSONField(
        _("rule"), default=fields.empty_object, blank=True, help_text=_("{} is everybody.")
    )
    include = models.JSONField(_("always in"), default=fields.empty_list, blank=True)
    exclude = models.JSONField(_("never in"), default=fields.empty_list, blank=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("cohort")
        verbose_name_plural = _("cohorts")
        ordering = ["key"]
        constraints = [
            models.CheckConstraint(
                name="cohort_key", condition=models.Q(key__regex=r"^[a-z][a-z0-9_.-]{0,62}$")
            )
        ]

    def __str__(self) -> str:
        return self.key


class ListState(models.TextChoices):
    """How it stands with a user on a list. Invited and accepted users are members."""

    INVITED = "invited", _("invited")
    ACCEPTED = "accepted", _("accepted")
    EXPIRED = "expired", _("expired")
    REMOVED = "removed", _("removed")


MEMBER_STATES = (ListState.INVITED, ListState.ACCEPTED)


class UserList(models.Model):
    """A list of users too long for a flag's own field. Its number travels in packed profiles."""

    class Kind(models.TextChoices):
        BLOCK = "block", _("block")
        ALLOW = "allow", _("allow")
        AUDIENCE = "audience", _("audience")

    key = fields.key_field(unique=True)
    # From a sequence, so a deleted list's number is never dealt again.
    number = models.SmallAutoField(_("number"), primary_key=True)
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    label_zh = fields.label_field(_("name (Chinese)"))
    label_en = fields.label_field(_("name (English)"))
    description = models.TextField(_("description"), blank=True, default="")
    invitation_lifetime = models.DurationField(
        _("invitations last"),
        null=True,
        blank=True,
        help_text=_("Such as 30 days; invited users leave the list then. Empty: for ever."),
    )
    version = models.PositiveIntegerField(_("version"), default=0, editable=False)
    size = models.PositiveBigIntegerField(_("users"), default=0, editable=False)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("user list")
        verbose_name_plural = _("user lists")
        ordering = ["key"]

    def __str__(self) -> str:
        return self.key


class UserListMember(models.Model):
    """One user who is on one list now; who was on it before is told by `memberships`."""

    pk = models.CompositePrimaryKey("user_id", "list_id")
    user_id = fields.user_id_field()
    list = models.ForeignKey(
        UserList, verbose_name=_("list"), related_name="members", on_delete=models.CASCADE
    )
    state = models.CharField(
        _("state"),
        max_length=8,
        choices=[(each.value, each.label) for each in MEMBER_STATES],
        default=ListState.ACCEPTED,
        db_default=ListState.ACCEPTED.value,
    )
    since = models.DateTimeField(_("since"), null=True)

    class Meta:
        verbose_name = _("listed user")
        verbose_name_plural = _("listed users")
        indexes = [
            # Those who may expire, oldest invitation first; accepted members cost nothing here.
            models.Index(
                fields=["list", "since"],
                condition=models.Q(state=ListState.INVITED.value),
                name="list_member_invited",
            )
        ]
        constraints = [
            models.CheckConstraint(
                name="list_member_state",
                condition=models.Q(state__in=[each.value for each in MEMBER_STATES]),
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id} on {self.list_id}"
