"""What all our admin pages share: reading without writing, and cells that say things."""

from __future__ import annotations

import json
from typing import Any

from django.db.models import Model
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from cohorts.admin.readable import ReadableMixin


class ReadOnlyAdmin(ReadableMixin, ModelAdmin):
    """Rows that only the platform writes: they can be searched, filtered and read."""

    actions = None
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def badge(text: Any, kind: str = "") -> SafeString:
    """A small coloured word; kinds: good, bad, warn, info, or plain."""
    return format_html('<span class="hd-badge hd-{}">{}</span>', kind or "plain", text)


def folded_json(value: Any, summary: Any) -> SafeString:
    """JSON for experts behind one line."""
    return format_html(
        '<details class="hd-fold"><summary>{}</summary><pre class="hd-json">{}</pre></details>',
        summary,
        json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True),
    )


def json_block(value: Any) -> SafeString:
    """JSON as it is, indented."""
    if value in (None, {}, []):
        return SafeString("—")
    return format_html(
        '<pre class="hd-json">{}</pre>', json.dumps(value, ensure_ascii=False, indent=2)
    )
