"""The lines a diagnosis shows below a capacity gate: one for each funding partner."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.translation import get_language, gettext

from rollout.admin.funding import STATES


def partner_lines(details: dict[str, Any]) -> list[dict[str, str]]:
    """Name, whether it serves the user's region, and its state; how much is left for the risk
    voice, whose details say so."""
    lines = []
    for each in details.get("partners", ()):
        name = each.get("label_zh" if _is_chinese() else "label_en") or each["key"]
        serves = each["serves"]
        word = STATES.get(each.get("state", "open" if each["open"] else "suspended"))
        gives = bool(serves) and each.get("state", "open") == "open" and each["open"]
        if each["number"] == details.get("place"):
            value = gettext("gave the place")
        elif serves:
            value = gettext("serves the region")
        else:
            value = gettext("does not serve the region")
        needed = str(word[0]) if word else ""
        if "left_today" in each:
            needed += ", " + gettext("%(n)s free today") % {"n": f"{each['left_today']:,}"}
        state = "pass" if gives or each["number"] == details.get("place") else "fail"
        lines.append(
            {"label": name, "value": value, "needed": needed, "state": state if serves else "plain"}
        )
    if refill_at := details.get("refill_at"):
        when = timezone.localtime(datetime.fromisoformat(refill_at))
        lines.append(
            {
                "label": gettext("places again"),
                "value": when.strftime("%Y-%m-%d %H:%M"),
                "needed": gettext("daily places are counted anew"),
                "state": "plain",
            }
        )
    return lines


def _is_chinese() -> bool:
    return (get_language() or "").startswith("zh")
