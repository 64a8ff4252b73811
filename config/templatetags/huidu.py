"""Template tags of our own admin pages."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import template
from django.utils import timezone
from django.utils.translation import gettext, ngettext

from cohorts.wording import label_of, shown_percent

register = template.Library()


@register.filter
def percent(ppm: int | None) -> str:
    """``50000|percent`` is ``5 %``."""
    return str(shown_percent(ppm))


@register.filter
def called(row: Any) -> str:
    """What people call a row: its label in their language where it has one."""
    return (
        label_of(row) if getattr(row, "label_zh", "") or getattr(row, "label_en", "") else str(row)
    )


@register.filter
def span(value: timedelta | None) -> str:
    """A stretch of time in one or two units: ``3 days 4 hours``."""
    if value is None:
        return "—"
    minutes = int(value.total_seconds() // 60)
    days, rest = divmod(abs(minutes), 1440)
    hours, minutes = divmod(rest, 60)
    parts = []
    if days:
        parts.append(ngettext("%(n)d day", "%(n)d days", days) % {"n": days})
    if hours and days < 10:
        parts.append(ngettext("%(n)d hour", "%(n)d hours", hours) % {"n": hours})
    if minutes and not days:
        parts.append(ngettext("%(n)d minute", "%(n)d minutes", minutes) % {"n": minutes})
    return " ".join(parts) or gettext("less than a minute")


@register.filter
def ago(at: datetime | None) -> str:
    """How long ago a moment was."""
    if at is None:
        return gettext("never")
    return gettext("%(span)s ago") % {"span": span(timezone.now() - at)}


@register.filter
def number(value: int | None) -> str:
    """``9588|number`` is ``9,588``; a dash for none."""
    return "—" if value is None else f"{value:,}"
