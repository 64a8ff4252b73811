"""Webhooks and what became of their messages."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from cohorts.admin.base import ReadOnlyAdmin, badge, folded_json
from rollout.admin.acts import Act, ActsMixin
from rollout.admin.base import ServiceAdmin, ServiceForm, form_field
from rollout.models import Delivery, Webhook
from rollout.services import messages, webhooks
from rollout.services.audit import Actor

EVENT_WORDS = {
    messages.PROMOTED: _("a stage was promoted"),
    messages.ROLLED_BACK: _("a rollout was rolled back"),
    messages.KILLED: _("a flag was killed"),
    messages.OVERDUE: _("a stage is overdue without a proof"),
    messages.CASE_OPENED: _("a review by a person was asked for"),
    messages.CASE_OVERDUE: _("a review case is overdue"),
    messages.CASE_DECIDED: _("a review case was decided"),
    messages.TEST: _("a test"),
}
SHOWN = 10  # deliveries on the page of a webhook; the list has them all


class WebhookForm(ServiceForm):
    events = forms.MultipleChoiceField(
        label=_("events"),
        required=False,
        choices=[(event, EVENT_WORDS[event]) for event in messages.EVENTS],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=_("Empty: all events."),
    )

    class Meta:
        model = Webhook
        fields = ("environment", *sorted(webhooks.EDITABLE))
        formfield_callback = form_field


def _try_out(row: Webhook, by: Actor, values: dict[str, Any]) -> str:
    done = webhooks.try_out(row, by=by)
    if done.delivered_at is not None:
        return gettext("The receiver took the test message (%(status)s).") % {"status": done.status}
    return gettext("The test message did not arrive: %(error)s") % {"error": done.error}


TRY = Act(
    name="test",
    title=_("Send a test"),
    icon="send",
    form=forms.Form,
    does=lambda row: (
        gettext("Sends one signed message of type huidu.test to %(url)s now.") % {"url": row.url}
    ),
    run=_try_out,
    fits=lambda row: row.enabled,
)


@admin.register(Webhook)
class WebhookAdmin(ActsMixin, ServiceAdmin):
    """Addresses that are told about promotions, rollbacks, kills and overdue stages."""

    form = WebhookForm
    acts = (TRY,)
    change_form_outer_before_template = "huidu/webhook_header.html"
    list_display = ("name", "url", "environment", "enabled", "health", "last_ok")
    list_filter = ("environment", "enabled")
    search_fields = ("name", "url")
    fieldsets = ((None, {"fields": (("environment", "name"), "url", "events", "enabled")}),)

    @display(description=_("state"))
    def health(self, row: Webhook) -> SafeString:
        if not row.enabled and row.failing_since:
            return badge(gettext("switched off: dead"), "bad")
        if not row.enabled:
            return badge(gettext("switched off"), "plain")
        if row.failures:
            return badge(gettext("%(n)s failures in a row") % {"n": row.failures}, "bad")
        return badge(gettext("well") if row.last_ok else gettext("not used yet"), "good")

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ("environment",) if obj else ()

    def write(self, request: HttpRequest, form: ServiceForm, obj: Any, by: Actor) -> Model:
        values = form.values(webhooks.EDITABLE)
        if obj is not None:
            return webhooks.update(obj, values, by=by, reason=form.said_reason)
        row, secret = webhooks.create(
            form.cleaned_data["environment"], values, by=by, reason=form.said_reason
        )
        request.huidu_secret = secret  # type: ignore[attr-defined]
        return row

    def erase(self, obj: Any, by: Actor, reason: str) -> None:
        webhooks.remove(obj, by=by, reason=reason)

    def response_add(self, request: HttpRequest, obj: Model, post_url_continue: Any = None) -> Any:
        """The secret is shown once, here."""
        return TemplateResponse(
            request,
            "huidu/new_secret.html",
            {
                **self.admin_site.each_context(request),
                "title": gettext("The new webhook"),
                "subtitle": str(obj),
                "webhook": obj,
                "secret": request.huidu_secret,  # type: ignore[attr-defined]
            },
            headers={"Cache-Control": "no-store"},
        )

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        return {
            **super().told(request, row),
            "status_badge": self.health(row),
            "webhook": row,
            "deliveries": [
                {"row": each, "event": event_in_words(each), "badge": outcome(each)}
                for each in row.deliveries.all()[:SHOWN]
            ],
        }


def event_in_words(row: Delivery) -> str:
    return str(EVENT_WORDS.get(row.event, row.event))


def outcome(row: Delivery) -> SafeString:
    if row.delivered_at is not None:
        return badge(gettext("delivered"), "good")
    if row.next_at is not None:
        return badge(gettext("on its way") if not row.attempts else gettext("tried again"), "warn")
    return badge(gettext("given up"), "bad")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """What was sent to whom, and what came of it."""

    list_display = ("created_at", "told", "receiver", "result", "attempts", "status", "error")
    list_filter = ("event", "webhook")
    list_select_related = ("webhook",)
    search_fields = ("=message", "address", "webhook__name")
    fields = (
        ("message", "event"),
        ("webhook", "address"),
        ("created_at", "delivered_at", "next_at"),
        ("attempts", "status"),
        "error",
        "content",
    )

    @display(description=_("event"), ordering="event")
    def told(self, row: Delivery) -> str:
        return event_in_words(row)

    @display(description=_("receiver"))
    def receiver(self, row: Delivery) -> str:
        return row.webhook.name if row.webhook else row.address

    @display(description=_("state"))
    def result(self, row: Delivery) -> SafeString:
        return outcome(row)

    @display(description=_("body"))
    def content(self, row: Delivery) -> SafeString:
        return folded_json(row.body, gettext("Message as sent"))
