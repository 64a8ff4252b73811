"""The flag at PostHog: a condition with properties, evaluated locally."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from world import REGIONS, Check


def make() -> tuple[Check, str]:
    from posthog import Posthog

    client = Posthog("key", host="http://127.0.0.1:9", personal_api_key=None, disabled=False)
    condition = {
        "rollout_percentage": 5,
        "properties": [
            {"key": "region", "operator": "exact", "type": "person", "value": REGIONS},
            {"key": "weekly_payments", "operator": "gt", "type": "person", "value": 2},
        ],
    }
    client.feature_flags = [
        {"id": 1, "key": "weilidai", "active": True, "filters": {"groups": [condition]}}
    ]

    def check(user: str, attributes: dict[str, Any]) -> bool:
        return bool(
            client.get_feature_flag(
                "weilidai",
                user,
                person_properties=attributes,
                only_evaluate_locally=True,
                send_feature_flag_events=False,
            )
        )

    return check, version("posthog")
