"""The flag at GrowthBook: a rule with a condition and a coverage."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from world import REGIONS, Check


def make() -> tuple[Check, str]:
    from growthbook import GrowthBook

    condition = {"region": {"$in": REGIONS}, "weekly_payments": {"$gt": 2}}
    rule = {"condition": condition, "force": True, "coverage": 0.05, "hashAttribute": "id"}
    features = {"weilidai": {"defaultValue": False, "rules": [rule]}}
    client = GrowthBook(features=features)

    def check(user: str, attributes: dict[str, Any]) -> bool:
        # One instance for all users: faster than one for each, as its manual has it.
        client.set_attributes({"id": user, **attributes})
        return bool(client.is_on("weilidai"))

    return check, version("growthbook")
