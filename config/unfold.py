"""How the admin looks: names, colours, menu. `django-unfold` reads it as the setting UNFOLD."""

from __future__ import annotations

from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

PRIMARY = {
    "50": "oklch(97.1% .013 240)",
    "100": "oklch(94.2% .03 245)",
    "200": "oklch(89% .058 248)",
    "300": "oklch(81% .1 250)",
    "400": "oklch(70.7% .15 254)",
    "500": "oklch(60% .175 257)",
    "600": "oklch(51% .17 258)",
    "700": "oklch(44.5% .155 259)",
    "800": "oklch(38.5% .13 260)",
    "900": "oklch(33.5% .1 260)",
    "950": "oklch(26% .075 262)",
}


def entry(title: Any, icon: str, page: str, model: str = "", badge: str = "") -> dict[str, Any]:
    """One line of the menu; people see it when they may view `model` (``app.name``)."""
    line: dict[str, Any] = {"title": title, "icon": icon, "link": reverse_lazy(f"admin:{page}")}
    if model:
        app, name = model.split(".")
        permission = f"{app}.view_{name}"
        line["permission"] = lambda request: request.user.has_perm(permission)
    if badge:
        line["badge"] = badge
    return line


def listing(title: Any, icon: str, model: str, badge: str = "") -> dict[str, Any]:
    """The line of a model's list, such as ``rollout.flag``."""
    return entry(title, icon, f"{model.replace('.', '_')}_changelist", model, badge)


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": _("Huidu gray release"),
    "SITE_HEADER": "Huidu 灰度",
    "SITE_SUBHEADER": _("Who sees a product, and why"),
    "SITE_URL": None,
    "SITE_SYMBOL": "gradient",
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("huidu/icon.svg"),
        }
    ],
    "SHOW_LANGUAGES": True,
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": False,
    "BORDER_RADIUS": "6px",
    "COLORS": {"primary": PRIMARY},
    "ENVIRONMENT": "config.dashboard.environment_badge",
    "DASHBOARD_CALLBACK": "config.dashboard.dashboard",
    "STYLES": [lambda request: static("huidu/admin.css")],
    "SCRIPTS": [lambda request: static("huidu/admin.js")],
    "SIDEBAR": {
        "show_search": True,
        "show_all_applications": False,
        "navigation": [
            {
                "title": _("Gray release"),
                "items": [
                    entry(_("Board"), "dashboard", "index"),
                    listing(_("Flags"), "toggle_on", "rollout.flag"),
                    listing(_("Rollouts"), "moving", "rollout.rollout"),
                    listing(_("Stages"), "steppers", "rollout.stage"),
                    listing(_("Decisions"), "balance", "rollout.decision"),
                    listing(
                        _("Change requests"),
                        "rule",
                        "rollout.changerequest",
                        "config.dashboard.waiting_changes",
                    ),
                ],
            },
            {
                "title": _("Users"),
                "separator": True,
                "items": [
                    entry(_("User diagnosis"), "person_search", "diagnose", "cohorts.profile"),
                    entry(_("Population waterfall"), "filter_alt", "waterfall", "cohorts.profile"),
                    listing(
                        _("Review cases"),
                        "support_agent",
                        "rollout.case",
                        "config.dashboard.late_cases",
                    ),
                    listing(_("Cohort rules"), "groups", "cohorts.cohort"),
                    listing(_("User lists"), "list_alt", "cohorts.userlist"),
                    listing(_("User profiles"), "badge", "cohorts.profile"),
                    listing(_("Attributes"), "tune", "cohorts.attribute"),
                    listing(_("Payments"), "payments", "cohorts.paymentevent"),
                    listing(_("Draws"), "casino", "cohorts.draw"),
                    listing(_("Draws under way"), "hourglass_top", "cohorts.drawjob"),
                    listing(_("Imports"), "upload_file", "cohorts.importjob"),
                    listing(_("Deletions at term"), "auto_delete", "cohorts.retentionrun"),
                ],
            },
            {
                "title": _("Policy"),
                "separator": True,
                "items": [
                    listing(_("Gates"), "gate", "rollout.gate"),
                    listing(_("Reason texts"), "record_voice_over", "rollout.reasontext"),
                    listing(_("Region policies"), "map", "rollout.regionpolicy"),
                    listing(_("Funding partners"), "account_balance", "rollout.fundingpartner"),
                    listing(_("Places given"), "event_seat", "cohorts.place"),
                    listing(_("Compliance items"), "gavel", "rollout.complianceitem"),
                    listing(_("Tiers"), "stairs", "rollout.tier"),
                    listing(_("Exclusion groups"), "call_split", "rollout.exclusiongroup"),
                ],
            },
            {
                "title": _("Evidence"),
                "separator": True,
                "items": [
                    listing(_("Metrics"), "monitoring", "rollout.metric"),
                    listing(_("Guard metrics"), "shield", "rollout.guard"),
                    listing(_("Exposures"), "visibility", "rollout.exposure"),
                    listing(_("Outcome events"), "event_note", "rollout.outcomeevent"),
                ],
            },
            {
                "title": _("System"),
                "separator": True,
                "items": [
                    listing(_("API keys"), "key", "rollout.apikey"),
                    listing(_("Webhooks"), "webhook", "rollout.webhook"),
                    listing(_("Messages sent"), "outgoing_mail", "rollout.delivery"),
                    listing(_("Snapshots"), "photo_library", "rollout.snapshot"),
                    listing(_("Audit log"), "history", "rollout.auditentry"),
                    listing(_("Operators"), "manage_accounts", "auth.user"),
                    listing(_("Roles"), "admin_panel_settings", "auth.group"),
                ],
            },
        ],
    },
}
