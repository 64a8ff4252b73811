"""Snapshots and the audit log: read only, told in words."""

from __future__ import annotations

from typing import Any

import msgspec
from django.contrib import admin
from django.core.cache import cache
from django.db.models import Q
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.base import ReadOnlyAdmin, badge, json_block
from huidu import model
from huidu.errors import HuiduError
from huidu.wire import snapshot as wire
from rollout.admin.base import ToldMixin
from rollout.models import AuditEntry, Snapshot
from rollout.services import audit, pseudonyms
from rollout.services.wording import action_in_words

CHAIN_CHECKED_SECONDS = 60
MOST_LINES = 60


@admin.register(Snapshot)
class SnapshotAdmin(ToldMixin, ReadOnlyAdmin):
    """Every publication, as nodes got it."""

    change_form_outer_before_template = "huidu/snapshot_header.html"
    list_display = ("sequence", "environment", "published_at", "reason", "by", "short_version")
    list_filter = ("environment",)
    search_fields = ("cause", "by", "version")
    date_hierarchy = "published_at"
    fields = (
        ("environment", "sequence"),
        ("published_at", "by"),
        "reason",
        "version",
        ("size", "redacted_at"),
    )
    readonly_fields = ("size", "reason")

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        return rows.defer("blob")

    @display(description=_("cause"))
    def reason(self, row: Snapshot) -> str:
        return cause_in_words(row.cause)

    @display(description=_("version"))
    def short_version(self, row: Snapshot) -> str:
        return str(row.version)[:12]

    @display(description=_("size"))
    def size(self, row: Snapshot) -> str:
        return gettext("%(n)s bytes") % {"n": f"{len(bytes(row.blob)):,}"}

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        before = (
            Snapshot.objects.filter(environment=row.environment, sequence__lt=row.sequence)
            .order_by("-sequence")
            .first()
        )
        return {"before": before, "changes": changes_between(before, row)}


def cause_in_words(cause: str) -> str:
    """``flag.killed flag:weilidai: reason`` as people read it."""
    told = []
    for part in cause.split("; "):
        action, _space, rest = part.partition(" ")
        told.append(f"{action_in_words(action)} {rest}".strip())
    return "; ".join(told) or "—"


def changes_between(before: Snapshot | None, after: Snapshot) -> list[dict[str, str]]:
    """What a publication changed against the one before it, line by line."""
    if before is None:
        return []
    try:
        old, new = wire.decode(bytes(before.blob)), wire.decode(bytes(after.blob))
    except HuiduError as error:
        return [{"path": "", "before": "", "after": str(error)}]
    lines: list[dict[str, str]] = []
    for name in ("flags", "cohorts", "attributes"):
        _compare(name, _by_key(getattr(old, name)), _by_key(getattr(new, name)), lines)
    return lines[:MOST_LINES]


def _by_key(rows: list[model.Flag] | list[model.Cohort] | list[model.Attribute]) -> dict[str, Any]:
    plain = (msgspec.to_builtins(row, order="deterministic") for row in rows)
    return {each.get("key") or each.get("name"): each for each in plain}


PARTS: dict[str, Any] = {
    "flags": _("flag"),
    "cohorts": _("cohort"),
    "attributes": _("attribute"),
    "rollout": _("rollout"),
    "stages": _("stage"),
    "gates": _("gate"),
    "tiers": _("tier"),
    "variants": _("variants"),
    "weights": _("weights"),
    "current": _("current stage"),
    "status": _("status"),
    "threshold": _("threshold"),
    "starts_at": _("started at"),
    "share_ppm": _("share"),
    "version": _("version"),
    "killed": _("killed"),
    "enabled": _("enabled"),
    "rule": _("rule"),
    "audience": _("audience"),
    "payload": _("payload"),
    "why": _("reason code"),
    "allow_list": _("allowed users"),
    "block_list": _("blocked users"),
    "allow_lists": _("allow lists"),
    "block_lists": _("block lists"),
    "include": _("always in"),
    "exclude": _("never in"),
    "region": _("region policy"),
    "prerequisites": _("prerequisites"),
    "exclusion": _("exclusion group"),
}


def path_in_words(path: str) -> str:
    """``flags › weilidai › killed`` in the reader's words; keys stay as they are."""
    return " › ".join(str(PARTS.get(part, part)) for part in path.split(" › "))


def _compare(path: str, old: Any, new: Any, lines: list[dict[str, str]]) -> None:
    if old == new:
        return
    if isinstance(old, list) and isinstance(new, list) and _keyed(old) and _keyed(new):
        old = {each["key"]: each for each in old}
        new = {each["key"]: each for each in new}
    if isinstance(old, dict) and isinstance(new, dict) and not _is_rule(path):
        for name in sorted({*old, *new}):
            _compare(f"{path} › {name}", old.get(name), new.get(name), lines)
        return
    lines.append({"path": path_in_words(path), "before": _short(old), "after": _short(new)})


def _keyed(rows: list[Any]) -> bool:
    return bool(rows) and all(isinstance(each, dict) and "key" in each for each in rows)


def _is_rule(path: str) -> bool:
    return path.endswith((" rule", " audience", " payload"))


def _short(value: Any) -> str:
    if value is None:
        return "—"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 300 else f"{text[:300]}…"


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """Who did what and why, as a chain that shows tampering."""

    list_before_template = "huidu/audit_chain.html"
    list_display = ("sequence", "at", "actor", "what", "target", "reason")
    list_filter = ("environment", "action")
    search_fields = ("actor", "target", "reason", "action")
    search_help_text = _("Users are kept as pseudonyms; search by a whole user id to find theirs.")
    date_hierarchy = "at"
    fields = (
        ("sequence", "at"),
        ("actor", "what"),
        ("target", "environment"),
        "reason",
        "was",
        "became",
        "previous_hash",
        "hash",
    )
    readonly_fields = ("what", "was", "became")

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        """Also what is about the user of that id: directly, or in a list of users."""
        found, twice = super().get_search_results(request, queryset, search_term)
        if search_term:
            about = pseudonyms.about(queryset, search_term).values("pk")
            found = queryset.filter(Q(pk__in=found.values("pk")) | Q(pk__in=about))
        return found, twice

    @display(description=_("action"), ordering="action")
    def what(self, row: AuditEntry) -> str:
        return action_in_words(row.action)

    @display(description=_("before"))
    def was(self, row: AuditEntry) -> SafeString:
        return json_block(row.before)

    @display(description=_("after"))
    def became(self, row: AuditEntry) -> SafeString:
        return json_block(row.after)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        context = {"chain": chain_badge(), **(extra_context or {})}
        return super().changelist_view(request, context)


def chain_badge() -> SafeString:
    """Whether the whole chain fits, read again at most once a minute."""
    report = cache.get_or_set("huidu:audit-chain", audit.verify_chain, CHAIN_CHECKED_SECONDS)
    assert isinstance(report, audit.ChainReport)
    if report.whole:
        return badge(
            gettext("Chain verified: %(n)s entries, none changed") % {"n": f"{report.entries:,}"},
            "good",
        )
    return badge(gettext("The chain is broken at entry %(n)s") % {"n": report.broken_at}, "bad")
