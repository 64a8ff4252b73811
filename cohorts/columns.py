"""The facts about a user that have a column of their own."""

from __future__ import annotations

from typing import Final

RISK_DAY: Final = "risk_scored_on"
"""The day of `risk_score`: a column, but no attribute that rules may use."""

COLUMNS: Final = {
    "region": "text",
    "staff": "bool",
    "friends": "whole",
    "assets_cny": "money",
    "yearly_spend_cny": "money",
    "risk_score": "score",
    RISK_DAY: "day",
    "registered_at": "day",
    "age": "whole",
    "student": "bool",
    "consent": "bool",
    "invited": "bool",
    "holds_fenfu": "bool",
    "applied_fenfu_at": "day",
    "emulator": "bool",
    "wifi_risk": "score",
    "scripted": "bool",
    "outstanding_balance_cny": "money",
    "optout": "bool",
}
"""Name of the column, which is the attribute's: what it holds."""
