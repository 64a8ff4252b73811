"""Receipts of draws, and imports: read, searched, never edited here."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from cohorts.admin.base import ReadOnlyAdmin, badge
from cohorts.admin.fields import shown_percent
from cohorts.models import Draw, DrawJob, ImportJob, RetentionRun
from cohorts.services.verify import receipt_faults
from cohorts.wording import Vocabulary, rule_in_words


@admin.register(Draw)
class DrawAdmin(ReadOnlyAdmin):
    """Receipts: enough to repeat a draw and get the same users."""

    list_display = ("subject", "stage_key", "share", "population", "n", "as_of")
    search_fields = ("subject", "stage_key", "input_hash")
    fields = (
        ("subject", "stage_key"),
        ("share", "n"),
        ("population", "as_of"),
        "eligible",
        "likelier",
        "chances",
        ("previous_threshold", "threshold"),
        ("salt", "formula"),
        "input_hash",
        "verified",
    )
    readonly_fields = ("share", "eligible", "likelier", "chances", "verified")

    @display(description=_("share"), ordering="share_ppm")
    def share(self, row: Draw) -> str:
        return str(shown_percent(row.share_ppm))

    @display(description=_("who was eligible"))
    def eligible(self, row: Draw) -> str:
        return rule_in_words(row.audience, Vocabulary.load())

    @display(description=_("weights"))
    def likelier(self, row: Draw) -> str:
        words = Vocabulary.load()
        return (
            "; ".join(
                gettext("%(rule)s: %(weight)s times as likely to be drawn")
                % {"rule": rule_in_words(each.get("rule", {}), words), "weight": each.get("weight")}
                for each in row.weights
                if isinstance(each, dict)
            )
            or "—"
        )

    @display(description=_("receipt"))
    def verified(self, row: Draw) -> SafeString:
        """The receipt against itself; `manage.py verify_draw` draws again."""
        if receipt_faults(row):
            return badge(gettext("contradicts itself"), "bad")
        return badge(gettext("verified: its numbers fit together"), "good")

    @display(description=_("users by weight"))
    def chances(self, row: Draw) -> SafeString:
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            (
                (
                    each["weight"],
                    f"{each['eligible']:,}",
                    f"{each['drawn']:,}",
                    f"{each['chance']:.4%}",
                )
                for each in row.strata
            ),
        )
        heads = (_("Weight"), _("Eligible users"), _("Users drawn"), _("Chance to be drawn"))
        head = format_html_join("", "<th>{}</th>", ((each,) for each in heads))
        return format_html('<table class="hd-table"><tr>{}</tr>{}</table>', head, rows)


@admin.register(RetentionRun)
class RetentionRunAdmin(ReadOnlyAdmin):
    """Nights on which values were deleted at the end of their term, and how far tonight is."""

    list_display = ("day", "state_badge", "users", "values", "started_at", "finished_at")
    fields = (("day", "state_badge"), ("started_at", "finished_at"), "users", "what")
    readonly_fields = ("state_badge", "what")

    @display(description=_("state"), ordering="finished_at")
    def state_badge(self, row: RetentionRun) -> SafeString:
        done = row.finished_at is not None
        return badge(gettext("done") if done else gettext("under way"), "good" if done else "warn")

    @display(description=_("values deleted"))
    def values(self, row: RetentionRun) -> str:
        return f"{sum(each.get('values', 0) for each in row.erased.values()):,}"

    @display(description=_("deleted"))
    def what(self, row: RetentionRun) -> SafeString:
        labels = Vocabulary.load().attributes
        lines = [
            (
                labels[name].label if name in labels else name,
                gettext("%(values)s values, and %(history)s of their history")
                % {
                    "values": f"{each.get('values', 0):,}",
                    "history": f"{each.get('history', 0):,}",
                },
            )
            for name, each in sorted(row.erased.items())
        ]
        if not lines:
            return SafeString("—")
        inside = format_html_join("", "<div><dt>{}</dt><dd>{}</dd></div>", lines)
        return format_html('<dl class="hd-facts">{}</dl>', inside)


JOB_KIND = {
    DrawJob.State.JUDGING: "warn",
    DrawJob.State.READY: "warn",
    DrawJob.State.REMEMBERING: "warn",
    DrawJob.State.DONE: "good",
    DrawJob.State.FAILED: "bad",
}


@admin.register(DrawJob)
class DrawJobAdmin(ReadOnlyAdmin):
    """Draws from millions, and how far they are."""

    list_display = ("subject", "stage_key", "share", "state_badge", "judged", "users", "begun_at")
    list_filter = ("state",)
    search_fields = ("subject", "stage_key")
    fields = (
        ("subject", "stage_key"),
        ("share", "state_badge"),
        ("judged", "users"),
        ("eligible", "receipt"),
        ("begun_at", "finished_at"),
        "problem",
    )
    readonly_fields = ("share", "state_badge")

    @display(description=_("share"), ordering="share_ppm")
    def share(self, row: DrawJob) -> str:
        return str(shown_percent(row.share_ppm))

    @display(description=_("state"), ordering="state")
    def state_badge(self, row: DrawJob) -> SafeString:
        return badge(row.get_state_display(), JOB_KIND.get(DrawJob.State(row.state), ""))


@admin.register(ImportJob)
class ImportJobAdmin(ReadOnlyAdmin):
    """Files that were read, and what became of their rows."""

    list_display = (
        "file_name",
        "kind",
        "state_badge",
        "accepted",
        "duplicates",
        "rejected",
        "started_at",
    )
    list_filter = ("kind", "state")
    search_fields = ("file_name", "sha256")

    @display(description=_("state"), ordering="state")
    def state_badge(self, row: ImportJob) -> SafeString:
        kind = {"done": "good", "failed": "bad"}.get(row.state, "info")
        return badge(row.get_state_display(), kind)
