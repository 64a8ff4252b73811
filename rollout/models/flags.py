"""A flag: what is asked about, what it answers, and who is treated apart from everybody else."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from huidu.model import PPM, ValueType
from rollout.models import fields


def on_variant() -> list[dict[str, object]]:
    return [{"key": "on", "value": True, "share_ppm": PPM}]


class ExclusionGroup(models.Model):
    """Flags that never share a user: each owns a slice of the group's users."""

    environment = fields.environment_field()
    key = fields.key_field()
    label_zh = fields.label_field(_("name (Chinese)"))
    label_en = fields.label_field(_("name (English)"))
    salt = models.CharField(_("salt"), max_length=64, default=fields.new_salt, editable=False)
    why = models.CharField(
        _("reason code"), max_length=63, default="product.excluded", validators=[fields.valid_code]
    )

    class Meta:
        verbose_name = _("exclusion group")
        verbose_name_plural = _("exclusion groups")
        ordering = ["environment", "key"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "key"], name="exclusion_group_key")
        ]

    def __str__(self) -> str:
        return self.key


class Flag(models.Model):
    """One question an application asks, such as "is 微粒贷 visible to this user?"."""

    class EntryMode(models.TextChoices):
        INVITE = "invite", _("by invitation or draw")
        APPLY = "apply", _("the user applies")

    class Type(models.TextChoices):
        BOOLEAN = ValueType.BOOLEAN.value, _("yes or no")
        STRING = ValueType.STRING.value, _("text")
        INTEGER = ValueType.INTEGER.value, _("whole number")
        FLOAT = ValueType.FLOAT.value, _("number")
        OBJECT = ValueType.OBJECT.value, _("JSON object")

    environment = fields.environment_field()
    key = fields.key_field()
    label_zh = fields.label_field(_("name (Chinese)"))
    label_en = fields.label_field(_("name (English)"))
    description = models.TextField(_("description"), blank=True, default="")
    owner = models.CharField(_("owner"), max_length=120, blank=True, default="")
    notify: ArrayField[list[str], list[str]] = ArrayField(
        models.EmailField(max_length=254),
        verbose_name=_("tell by e-mail"),
        default=list,
        blank=True,
        size=20,
        help_text=_("Addresses told of promotions, rollbacks, kills and overdue stages."),
    )
    entry_mode = models.CharField(
        _("entry"), max_length=8, choices=EntryMode.choices, default=EntryMode.INVITE
    )
    lender = models.CharField(_("lender"), max_length=120, blank=True, default="")
    type = models.CharField(
        _("value type"), max_length=8, choices=Type.choices, default=Type.BOOLEAN
    )
    variants = models.JSONField(
        _("variants"),
        default=on_variant,
        help_text=_("Dealt among admitted users; the shares sum to 1,000,000."),
    )
    off_variant = models.CharField(_("hidden variant"), max_length=63, default="off")
    off_value = models.JSONField(_("hidden value"), default=bool)
    payload = models.JSONField(_("payload"), default=fields.empty_object, blank=True)
    enabled = models.BooleanField(
        _("enabled"), default=True, help_text=_("Off: hidden from everybody, in peace.")
    )
    killed = models.BooleanField(
        _("killed"), default=False, help_text=_("Hidden at once, allow lists included.")
    )
    killed_at = models.DateTimeField(_("killed at"), null=True, blank=True)
    killed_by = models.CharField(_("killed by"), max_length=150, blank=True, default="")
    killed_reason = models.TextField(_("why killed"), blank=True, default="")
    client_visible = models.BooleanField(
        _("client keys may ask"), default=True, help_text=_("Apps and browsers may ask for it.")
    )
    record_on_check = models.BooleanField(
        _("a check is an exposure"),
        default=False,
        help_text=_("Count a user as shown when checked; else the application reports it."),
    )
    receipts_ppm = fields.ppm_field(_("receipts kept"), default=0)
    four_eyes = models.BooleanField(
        _("two people"),
        default=True,
        help_text=_("Starting, promoting, resuming and gate changes need a second person."),
    )
    salt = models.CharField(_("salt"), max_length=64, default=fields.new_salt, editable=False)
    allow_users: ArrayField[list[str], list[str]] = ArrayField(
        models.CharField(max_length=256),
        verbose_name=_("allowed users"),
        default=list,
        blank=True,
        help_text=_("Skip the draw, never the absolute gates."),
    )
    block_users: ArrayField[list[str], list[str]] = ArrayField(
        models.CharField(max_length=256),
        verbose_name=_("blocked users"),
        default=list,
        blank=True,
    )
    allow_lists = models.ManyToManyField(
        "cohorts.UserList", verbose_name=_("allow lists"), related_name="allowing", blank=True
    )
    block_lists = models.ManyToManyField(
        "cohorts.UserList", verbose_name=_("block lists"), related_name="blocking", blank=True
    )
    prerequisites = models.JSONField(
        _("prerequisites"),
        default=fields.empty_list,
        blank=True,
        help_text=_('Flags that must be visible, as [{"flag": "...", "variants": []}].'),
    )
    exclusion = models.ForeignKey(
        ExclusionGroup,
        verbose_name=_("exclusion group"),
        related_name="flags",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
    )
    exclusion_from_ppm = fields.ppm_field(_("slice from"), default=0)
    exclusion_to_ppm = fields.ppm_field(_("slice to"))
    version = models.PositiveIntegerField(_("version"), default=1, editable=False)
    archived_at = models.DateTimeField(_("archived at"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("flag")
        verbose_name_plural = _("flags")
        ordering = ["environment", "key"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "key"], name="flag_key"),
            models.CheckConstraint(
                name="flag_exclusion_slice",
                condition=models.Q(exclusion_from_ppm__lte=models.F("exclusion_to_ppm"))
                & fields.ppm_within("exclusion_to_ppm"),
            ),
            models.CheckConstraint(
                name="flag_kill_is_explained",
                condition=models.Q(killed=False)
                | (models.Q(killed_at__isnull=False) & ~models.Q(killed_by="")),
            ),
        ]

    def __str__(self) -> str:
        return self.key


class Tier(models.Model):
    """What users of one tier get on top: the first tier whose rule is true adds its payload."""

    flag = models.ForeignKey(
        Flag, verbose_name=_("flag"), related_name="tiers", on_delete=models.CASCADE
    )
    order = models.PositiveSmallIntegerField(_("order"))
    key = fields.key_field()
    label_zh = fields.label_field(_("name (Chinese)"))
    label_en = fields.label_field(_("name (English)"))
    rule = models.JSONField(_("rule"), default=fields.empty_object, blank=True)
    payload = models.JSONField(_("payload"), default=fields.empty_object, blank=True)

    class Meta:
        verbose_name = _("tier")
        verbose_name_plural = _("tiers")
        ordering = ["flag", "order"]
        constraints = [
            models.UniqueConstraint(fields=["flag", "key"], name="tier_key"),
            models.UniqueConstraint(
                fields=["flag", "order"], name="tier_order", deferrable=models.Deferrable.DEFERRED
            ),
        ]

    def __str__(self) -> str:
        return f"{self.flag.key}/{self.key}"
