"""Funding partners with what they have given, and the places users hold."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.widgets import UnfoldBooleanSwitchWidget

from cohorts.admin.base import ReadOnlyAdmin, badge
from cohorts.admin.fields import PercentField, shown_percent
from cohorts.models import Place
from cohorts.regions import name_of
from cohorts.selectors import day_of
from cohorts.wording import label_of
from rollout import selectors_funding as funding_now
from rollout.admin.acts import Act, ActsMixin
from rollout.admin.base import ServiceAdmin, ServiceForm
from rollout.admin.gates import OfFlag
from rollout.admin.region_form import CodesField
from rollout.admin.requests import RequestsMixin
from rollout.models import FundingPartner, Rollout
from rollout.selectors_funding import Room
from rollout.services import funding, places
from rollout.services.audit import Actor

STATES = {
    funding_now.OPEN: (_("open"), "good"),
    funding_now.SUSPENDED: (_("suspended"), "bad"),
    funding_now.OUT_OF_DATE: (_("not valid today"), "bad"),
    funding_now.FULL_TODAY: (_("full today"), "warn"),
    funding_now.FULL: (_("full"), "warn"),
}
NAMED = 3  # regions told in the list; the form has them all


class FundingPartnerForm(ServiceForm):
    share_ppm = PercentField(label=_("contribution share"))
    regions = CodesField(
        label=_("regions"),
        required=False,
        help_text=_("One a line: code or name. A province includes its cities."),
    )
    below_given = forms.BooleanField(
        label=_("save although a cap is below what was given"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=_("Nobody loses a place by it; no new ones are given until places come free."),
    )

    class Meta:
        model = FundingPartner
        fields = ("flag", *sorted(funding.EDITABLE))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if cleaned.get("regions") is None:
            cleaned["regions"] = []
        if self.instance.pk and not cleaned.get("below_given"):
            room = room_of(self.instance)
            for name, given in (("total_cap", room.total), ("daily_cap", room.today)):
                cap = cleaned.get(name)
                if name in self.changed_data and cap is not None and cap < given:
                    self.add_error(name, self._below(given))
        return cleaned

    def _below(self, given: int) -> forms.ValidationError:
        return forms.ValidationError(
            gettext(
                "%(given)s places were given already. With this cap nobody new gets one, and "
                "nobody loses theirs. To go on, say so below."
            )
            % {"given": f"{given:,}"},
            code="below_given",
        )


def room_of(partner: FundingPartner) -> Room:
    (room,) = funding_now.rooms([partner], day_of(timezone.now()))
    return room


def state_badge(room: Room) -> SafeString:
    text, kind = STATES[room.state]
    return badge(text, kind)


def used(given: int, cap: int | None) -> SafeString:
    """``120 / 1,000`` over a bar."""
    if cap is None:
        return format_html("{} / {}", f"{given:,}", gettext("no cap"))
    share = 100 if given >= cap else 100 * given // cap
    return format_html(
        '<span class="hd-number">{} / {}</span><br>'
        '<span class="hd-bar{}" style="--share:{}%;width:120px"></span>',
        f"{given:,}",
        f"{cap:,}",
        " is-harm" if share >= 100 else "",
        share,
    )


@admin.register(FundingPartner)
class FundingPartnerAdmin(OfFlag, RequestsMixin, ServiceAdmin):
    """A bank that funds a product, and how many users it may let in."""

    form = FundingPartnerForm
    change_kind = "partner.save"
    create_by_request = True
    change_form_outer_before_template = "huidu/partner_header.html"
    list_display = (
        "order",
        "named",
        "flag_name",
        "kind",
        "where",
        "share",
        "today",
        "in_total",
        "state",
    )
    list_display_links = ("named",)
    list_filter = ("flag", "kind", "is_open")
    list_select_related = ("flag",)
    search_fields = ("key", "label_zh", "label_en", "registration", "flag__key")
    autocomplete_fields = ("flag",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "flag",
                    ("order", "key"),
                    ("label_zh", "label_en"),
                    ("kind", "is_open"),
                )
            },
        ),
        (_("Places"), {"fields": (("daily_cap", "total_cap"), "below_given")}),
        (_("Where it lends"), {"fields": ("everywhere", "regions")}),
        (
            _("Compliance"),
            {
                "fields": (
                    ("share_ppm", "registration"),
                    "source",
                    ("valid_from", "valid_to"),
                )
            },
        ),
    )

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        partners = FundingPartner.objects.all()
        self.rooms = {
            each.partner.pk: each for each in funding_now.rooms(partners, day_of(timezone.now()))
        }
        return super().get_changelist_instance(request)

    @display(description=_("funding partner"), ordering="key")
    def named(self, row: FundingPartner) -> str:
        return label_of(row)

    @display(description=_("regions"))
    def where(self, row: FundingPartner) -> str:
        return where(row)

    @display(description=_("contribution share"), ordering="share_ppm")
    def share(self, row: FundingPartner) -> str:
        return str(shown_percent(row.share_ppm))

    @display(description=_("given today"))
    def today(self, row: FundingPartner) -> SafeString:
        return used(self.rooms[row.pk].today, row.daily_cap)

    @display(description=_("given in total"))
    def in_total(self, row: FundingPartner) -> SafeString:
        return used(self.rooms[row.pk].total, row.total_cap)

    @display(description=_("state"), ordering="is_open")
    def state(self, row: FundingPartner) -> SafeString:
        return state_badge(self.rooms[row.pk])

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        found = super().get_fieldsets(request, obj)
        if obj is not None:
            return found
        plain = {"fields": (("daily_cap", "total_cap"),)}
        return [(name, plain if name == _("Places") else told) for name, told in found]

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # its number stands in profiles; it is suspended instead

    def payload(self, form: Any, row: Any) -> dict[str, Any]:
        values = form.values(funding.EDITABLE, changed_only=row is not None)
        for name in ("valid_from", "valid_to"):
            if values.get(name) is not None:
                values[name] = values[name].isoformat()
        if row is None:
            values["flag"] = form.cleaned_data["flag"].pk
        return cast(dict[str, Any], values)

    def made(self, form: Any) -> Model:
        return FundingPartner.objects.get(
            flag=form.cleaned_data["flag"], key=form.cleaned_data["key"]
        )

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        room = room_of(row)
        return {
            "partner": row,
            "partner_name": label_of(row),
            "status_badge": state_badge(room),
            "today": used(room.today, row.daily_cap),
            "in_total": used(room.total, row.total_cap),
            "left": room.left,
            "floor": funding_floor(),
            "where": where(row),
        }


def where(row: FundingPartner) -> str:
    """Where a partner lends, in a few words."""
    if row.everywhere:
        return gettext("everywhere")
    language = get_language() or "en"
    told = ", ".join(name_of(code, language) for code in row.regions[:NAMED])
    more = len(row.regions) - NAMED
    if more <= 0:
        return told
    return ngettext("%(told)s and %(more)d more", "%(told)s and %(more)d more", more) % {
        "told": told,
        "more": more,
    }


def funding_floor() -> str:
    from django.conf import settings

    return str(shown_percent(settings.HUIDU_CONTRIBUTION_FLOOR_PPM))


class PartnerFilter(admin.SimpleListFilter):
    """By the partner that gave the place."""

    title = _("funding partner")
    parameter_name = "partner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = FundingPartner.objects.select_related("flag")
        named = [(str(each.pk), f"{label_of(each.flag)} · {label_of(each)}") for each in rows]
        return [*named, ("0", gettext("shown before places were needed"))]

    def queryset(self, request: HttpRequest, rows: Any) -> Any:
        value = self.value()
        return rows.filter(partner=int(value)) if value and value.isdigit() else rows


class HeldFilter(admin.SimpleListFilter):
    """Whether the place is still held."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("held", _("held")), ("released", _("released"))]

    def queryset(self, request: HttpRequest, rows: Any) -> Any:
        if self.value() == "held":
            live = Rollout.objects.filter(status__in=Rollout.IN_EFFECT).values("slot")
            return rows.filter(released_at=None, slot__in=live)  # a rollback returned the others
        return rows.exclude(released_at=None) if self.value() == "released" else rows


def _release(row: Place, by: Actor, values: dict[str, Any]) -> str:
    places.release(row, by=by, reason=values["reason"])
    return gettext("The place is free again.")


RELEASE = Act(
    name="release",
    title=_("Take the place back"),
    icon="person_remove",
    kind="danger",
    does=lambda row: (
        gettext(
            "%(user)s no longer sees the product, and the place is free for somebody else. The "
            "user may be given another one while there is room: to keep a user out, put him on "
            "the flag's block list."
        )
        % {"user": row.user_id}
    ),
    touched=lambda row: gettext("One user loses what he was shown."),
    run=_release,
    fits=lambda row: row.released_at is None and _rollout(row) is not None,
)


def _rollout(row: Place) -> Rollout | None:
    giving = Rollout.objects.filter(slot=row.slot, status__in=Rollout.IN_EFFECT)
    return giving.select_related("flag").first()


@admin.register(Place)
class PlaceAdmin(ActsMixin, ReadOnlyAdmin):
    """Who has a place, from whom, and since when."""

    acts = (RELEASE,)
    change_form_outer_before_template = "huidu/acts_header.html"
    list_display = ("user_id", "flag_name", "partner_name", "where", "since", "state")
    list_filter = (HeldFilter, PartnerFilter)
    search_fields = ("^user_id",)
    search_help_text = _("Search by the beginning of the user id.")
    ordering = ("-id",)
    fields = (
        ("user_id", "flag_name"),
        ("partner_name", "where"),
        ("since", "day"),
        ("state", "released_at"),
        ("released_by", "released_reason"),
    )
    readonly_fields = ("flag_name", "partner_name", "where", "state")

    def get_queryset(self, request: HttpRequest) -> Any:
        partners = FundingPartner.objects.all()
        self.partners = {each.pk: each for each in partners}
        rollouts = Rollout.objects.select_related("flag").filter(flag__gates__capacity=True)
        self.rollouts = {each.slot: each for each in rollouts}
        return super().get_queryset(request)

    @display(description=_("rollout"), ordering="slot")
    def flag_name(self, row: Place) -> str:
        rollout = self.rollouts.get(row.slot)
        return f"{label_of(rollout.flag)} #{rollout.slot}" if rollout else f"#{row.slot}"

    @display(description=_("funding partner"), ordering="partner")
    def partner_name(self, row: Place) -> str:
        if not row.partner:
            return gettext("nobody: shown before places were needed")
        partner = self.partners.get(row.partner)
        return label_of(partner) if partner else str(row.partner)

    @display(description=_("region"), ordering="region")
    def where(self, row: Place) -> str:
        return name_of(row.region, get_language() or "en") if row.region else "—"

    @display(description=_("state"), ordering="released_at")
    def state(self, row: Place) -> SafeString:
        if row.released_at is not None:
            return badge(gettext("released"), "plain")
        rollout = self.rollouts.get(row.slot)
        if rollout is not None and rollout.status not in Rollout.IN_EFFECT:
            return badge(gettext("returned: rolled back"), "plain")
        return badge(gettext("held"), "good")

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        return {**super().told(request, row), "status_badge": self.state(row)}
