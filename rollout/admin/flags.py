"""Flags: what they answer, what stands in the way, and the big red button."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.base import badge, json_block
from cohorts.admin.fields import LinesField, PercentField, PrettyJson
from cohorts.wording import Vocabulary, label_of, rule_in_words, shown_percent
from huidu.errors import HuiduError
from rollout.admin import board, faults
from rollout.admin.acts import Act, ActsMixin, calling, requesting
from rollout.admin.base import ServiceAdmin, ServiceForm
from rollout.admin.effect_told import in_digits
from rollout.admin.requests import RequestsMixin
from rollout.models import Flag, Gate, Rollout
from rollout.services import flags
from rollout.services import reach as reaches
from rollout.services.audit import Actor

A_WHILE: Final = timedelta(minutes=1)
"""A count is told without its moment up to this age."""


class FlagForm(ServiceForm):
    variants = PrettyJson(label=_("variants"))
    off_value = PrettyJson(label=_("hidden value"), required=False)
    payload = PrettyJson(label=_("payload"), required=False)
    prerequisites = PrettyJson(label=_("prerequisites"), required=False)
    notify = LinesField(
        label=_("tell by e-mail"),
        required=False,
        help_text=_("Addresses, one a line: told of promotions, rollbacks, kills, overdue stages."),
    )
    allow_users = LinesField(
        label=_("always shown"),
        required=False,
        help_text=_("User ids, one a line. They skip the draw, never the absolute gates."),
    )
    block_users = LinesField(
        label=_("never shown"), required=False, help_text=_("User ids, one a line.")
    )
    exclusion_from_ppm = PercentField(label=_("slice from"), required=False)
    exclusion_to_ppm = PercentField(label=_("slice to"), required=False)
    receipts_ppm = PercentField(
        label=_("receipts kept"),
        required=False,
        help_text=_(
            "The share of checks whose whole answer is kept, to be explained and replayed later. 0 "
            "keeps none; each kept one costs a check little and the database about 400 bytes."
        ),
    )

    class Meta:
        model = Flag
        exclude = ("killed", "killed_at", "killed_by", "killed_reason")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        for name, empty in (("payload", {}), ("prerequisites", []), ("off_value", False)):
            if name in self.fields and cleaned.get(name) is None:
                cleaned[name] = empty
        return cleaned


def touched(flag: Flag) -> str:
    """How many users see the flag now, as the confirmation says it."""
    return _counted(
        flag,
        gettext("Nobody sees it now."),
        lambda users: ngettext("%(users)s user sees it now.", "%(users)s users see it now.", users),
    )


def loses(flag: Flag) -> str:
    """How many users lose it, for steps that take it away."""
    return _counted(
        flag,
        gettext("Nobody sees it now, so nobody loses it."),
        lambda users: ngettext(
            "%(users)s user who sees it now loses it.",
            "%(users)s users who see it now lose it.",
            users,
        ),
    )


def _counted(flag: Flag, nobody: str, some: Callable[[int], str]) -> str:
    try:
        reach = reaches.users_shown(flag)
    except HuiduError as fault:
        return faults.in_words(fault)
    counted = by_the_facts_of(reach.as_of)
    users = reach.users
    if users.users == 0 and not users.error:
        return nobody + counted
    return some(users.users) % {"users": in_digits(users)} + counted


def by_the_facts_of(as_of: datetime) -> str:
    """A sentence, with a space in front, about how old a count is; nothing for a new one."""
    if timezone.now() - as_of <= A_WHILE:
        return ""
    at = timezone.localtime(as_of).strftime("%Y-%m-%d %H:%M")
    return " " + gettext("By the facts of %(at)s.") % {"at": at}


def _kill(flag: Flag, by: Actor, values: dict[str, Any]) -> str:
    done = flags.kill(flag, by=by, reason=values["reason"])
    if done.reached_nodes:
        return gettext("Stopped. Every node hides %(flag)s from now on.") % {"flag": label_of(flag)}
    return gettext(
        "Stopped in the database. The message store does not answer; nodes follow as soon as it "
        "does."
    )


KILL = Act(
    name="kill",
    title=_("Stop everything"),
    icon="dangerous",
    kind="danger",
    does=lambda flag: (
        gettext(
            "Hides “%(flag)s” from every user at once, allow lists included, on every node within "
            "a second. Nothing is deleted; bringing it back is a step of its own."
        )
        % {"flag": label_of(flag)}
    ),
    touched=loses,
    run=_kill,
    fits=lambda flag: not flag.killed,
)
RESUME = Act(
    name="resume",
    title=_("Bring it back"),
    icon="restart_alt",
    does=lambda flag: gettext(
        "Ends the stop. A rollout that was running comes back paused: users who were shown it see "
        "it again, and a person goes on with it."
    ),
    run=requesting("flag.resume", environment=lambda flag: flag.environment),
    fits=lambda flag: flag.killed,
)
ARCHIVE = Act(
    name="archive",
    title=_("Archive"),
    icon="inventory_2",
    does=lambda flag: gettext("Takes the flag out of use for good. Its history stays readable."),
    run=calling(flags.archive),
    fits=lambda flag: (
        flag.archived_at is None and not flag.rollouts.filter(status__in=Rollout.IN_EFFECT).exists()
    ),
)


@admin.register(Flag)
class FlagAdmin(RequestsMixin, ActsMixin, ServiceAdmin):
    """One page a flag: what is told to applications, and everything that decides about it."""

    form = FlagForm
    acts = (KILL, RESUME, ARCHIVE)
    change_kind = "flag.update"
    change_form_outer_before_template = "huidu/flag_header.html"
    list_display = ("named", "key", "state_badge", "rollout_now", "environment", "owner")
    list_filter = ("environment", "enabled", "killed", "entry_mode")
    search_fields = ("key", "label_zh", "label_en", "owner", "description")
    autocomplete_fields = ("exclusion",)
    filter_horizontal = ("allow_lists", "block_lists")
    fieldsets = (
        (
            _("Overview"),
            {
                "classes": ("tab",),
                "fields": (
                    ("environment", "key"),
                    ("label_zh", "label_en"),
                    "description",
                    ("owner", "lender"),
                    "notify",
                    ("entry_mode", "type"),
                    "enabled",
                    "four_eyes",
                ),
            },
        ),
        (
            _("Answer"),
            {
                "classes": ("tab",),
                "fields": (
                    "variants",
                    ("off_variant", "off_value"),
                    "payload",
                    ("client_visible", "record_on_check"),
                    "receipts_ppm",
                ),
            },
        ),
        (
            _("Lists"),
            {
                "classes": ("tab",),
                "fields": ("allow_users", "block_users", "allow_lists", "block_lists"),
            },
        ),
        (
            _("Dependencies"),
            {
                "classes": ("tab",),
                "fields": (
                    "prerequisites",
                    "exclusion",
                    ("exclusion_from_ppm", "exclusion_to_ppm"),
                ),
            },
        ),
    )

    @display(description=_("flag"), ordering="label_zh")
    def named(self, row: Flag) -> str:
        return label_of(row)

    @display(description=_("state"))
    def state_badge(self, row: Flag) -> SafeString:
        return badge(*board.state_of(row, row.told_rollout))  # type: ignore[attr-defined]

    @display(description=_("share"))
    def rollout_now(self, row: Flag) -> SafeString | str:
        journey = row.told_rollout  # type: ignore[attr-defined]
        return shown_percent(journey.current.share_ppm) if journey and journey.current else "—"

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """One query for all rollouts of the page."""
        from rollout.mappers import rollout_to_tell

        changelist = super().get_changelist_instance(request)
        rows = list(changelist.result_list)
        journeys: dict[int, list[Rollout]] = {}
        for journey in Rollout.objects.filter(flag__in=rows).select_related("current"):
            journeys.setdefault(journey.flag_id, []).append(journey)
        for row in rows:
            row.told_rollout = rollout_to_tell(journeys.get(row.pk, []))
        changelist.result_list = rows
        return changelist

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ("environment", "key") if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # flags are archived: decisions and receipts refer to them

    def told(self, request: HttpRequest, flag: Any) -> dict[str, Any]:
        words = Vocabulary.load()
        gates = flag.gates.select_related("region_policy").order_by("order")
        views = board.flag_views(pks=[flag.pk])
        reads_gates = request.user.has_perm("rollout.view_gate")
        return {
            **super().told(request, flag),
            "subtitle": label_of(flag),
            "view": views[0] if views else None,
            "gates": [
                {
                    "gate": gate,
                    "name": label_of(gate),
                    # Their lines are for those who may open them: some are anti-fraud signals.
                    "passes": gate_in_words(gate, words) if reads_gates else "",
                }
                for gate in gates
            ],
            "tiers": [
                {
                    "tier": tier,
                    "name": label_of(tier),
                    "rule": rule_in_words(tier.rule, words),
                    "payload": json_block(tier.payload),
                }
                for tier in flag.tiers.order_by("order")
            ],
            "rollouts": flag.rollouts.order_by("-slot"),
            "sample": sample_answer(flag),
            "compliance": flag.compliance_items.order_by("key"),
        }

    def payload(self, form: FlagForm, flag: Flag) -> dict[str, Any]:
        """What changed, as a change request carries it."""
        values = form.values(flags.EDITABLE, changed_only=True)
        if "exclusion" in values:
            values["exclusion"] = values["exclusion"].key if values["exclusion"] else None
        for name in ("allow_lists", "block_lists"):
            if name in form.changed_data:
                values[name] = [each.key for each in form.cleaned_data[name]]
        return values

    def create(self, form: ServiceForm, by: Actor) -> Flag:
        values = form.values(flags.EDITABLE)
        made = flags.create(
            form.cleaned_data["environment"],
            form.cleaned_data["key"],
            by=by,
            reason=form.said_reason,
            **values,
        )
        lists: dict[str, Any] = {
            name: list(form.cleaned_data[name]) for name in ("allow_lists", "block_lists")
        }
        if any(lists.values()):
            made = flags.update(made, {}, by=by, reason=form.said_reason, **lists)
        return made


def gate_in_words(gate: Gate, words: Vocabulary) -> str:
    """Who passes a gate, in one sentence."""
    if gate.region_policy is not None:
        return gettext("by region policy “%(policy)s”") % {"policy": label_of(gate.region_policy)}
    if gate.capacity:
        return gettext("by a place of a funding partner")
    return rule_in_words(gate.rule, words)


def sample_answer(flag: Flag) -> SafeString:
    """What an application receives for a user who is shown the flag, and for one who is not."""
    variant: dict[str, Any] = flag.variants[0] if flag.variants else {"key": "on", "value": True}
    journey = flag.rollouts.order_by("-slot").first()
    stages = list(journey.stages.order_by("order")) if journey else []
    payload = {
        **flag.payload,
        **(stages[0].payload if stages else {}),
        **variant.get("payload", {}),
    }
    shown = {
        "key": flag.key,
        "value": variant.get("value"),
        "variant": variant.get("key"),
        "reason": "SPLIT",
        "metadata": {"why": "shown", **({"payload": payload} if payload else {})},
    }
    hidden = {
        "key": flag.key,
        "value": flag.off_value,
        "variant": flag.off_variant,
        "reason": "TARGETING_MATCH",
        "metadata": {"why": "region.closed"},
    }
    return format_html(
        '<div class="hd-columns"><div><h4>{}</h4><pre class="hd-json">{}</pre></div>'
        '<div><h4>{}</h4><pre class="hd-json">{}</pre></div></div>',
        gettext("A user who is shown it"),
        json.dumps(shown, ensure_ascii=False, indent=2),
        gettext("A user who is not"),
        json.dumps(hidden, ensure_ascii=False, indent=2),
    )
