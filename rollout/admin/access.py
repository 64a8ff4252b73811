"""API keys: made, shown once, revoked."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.base import badge
from rollout.admin.acts import Act, ActsMixin, calling
from rollout.admin.base import ServiceAdmin, ServiceForm
from rollout.models import ApiKey
from rollout.services import keys
from rollout.services.audit import Actor


class ApiKeyForm(ServiceForm):
    class Meta:
        model = ApiKey
        fields = ("environment", "kind", "name")


REVOKE = Act(
    name="revoke",
    title=_("Revoke"),
    icon="key_off",
    kind="danger",
    does=lambda row: (
        gettext(
            "Ends the key “%(key)s” on every node at once. Applications that still use it are "
            "refused. It never comes back."
        )
        % {"key": row.name}
    ),
    touched=lambda row: (
        gettext("Last used: %(when)s.")
        % {"when": row.last_used.strftime("%Y-%m-%d %H:%M") if row.last_used else gettext("never")}
    ),
    run=calling(keys.revoke),
    fits=lambda row: row.revoked_at is None,
)


@admin.register(ApiKey)
class ApiKeyAdmin(ActsMixin, ServiceAdmin):
    """Keys of applications; only their fingerprint is kept."""

    form = ApiKeyForm
    acts = (REVOKE,)
    change_form_outer_before_template = "huidu/acts_header.html"
    list_display = ("name", "begins", "kind", "environment", "state", "last_used", "created_by")
    list_filter = ("environment", "kind", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "prefix", "created_by")
    fieldsets = (
        (None, {"fields": (("environment", "kind"), "name")}),
        (
            _("Life"),
            {
                "fields": (
                    ("prefix", "last_used"),
                    ("created_by", "created_at"),
                    ("revoked_by", "revoked_at"),
                )
            },
        ),
    )
    add_fieldsets = ((None, {"fields": (("environment", "kind"), "name")}),)

    @display(description=_("begins with"))
    def begins(self, row: ApiKey) -> SafeString:
        return format_html("<code>{}…</code>", row.prefix)

    @display(description=_("state"), ordering="revoked_at")
    def state(self, row: ApiKey) -> SafeString:
        if row.revoked_at:
            return badge(gettext("revoked"), "bad")
        return badge(gettext("live"), "good")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # a key is made and revoked, nothing between

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def write(self, request: HttpRequest, form: ServiceForm, obj: Any, by: Actor) -> Model:
        data = form.cleaned_data
        row, token = keys.create(data["environment"], data["kind"], data["name"], by=by)
        request.huidu_token = token  # type: ignore[attr-defined]
        return row

    def response_add(self, request: HttpRequest, obj: Model, post_url_continue: Any = None) -> Any:
        """Shown once, never stored: not in the session either."""
        from django.template.response import TemplateResponse

        return TemplateResponse(
            request,
            "huidu/new_key.html",
            {
                **self.admin_site.each_context(request),
                "title": gettext("The new key"),
                "subtitle": str(obj),
                "key": obj,
                "token": request.huidu_token,  # type: ignore[attr-defined]
            },
            headers={"Cache-Control": "no-store"},
        )

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        return {**super().told(request, row), "status_badge": self.state(row)}
