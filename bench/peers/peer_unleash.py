"""The flag at Unleash: a strategy with constraints."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from typing import Any

from world import REGIONS, Check


def make() -> tuple[Check, str]:
    from UnleashClient import UnleashClient
    from UnleashClient.cache import FileCache

    constraints = [
        {"contextName": "region", "operator": "IN", "values": REGIONS},
        {"contextName": "weekly_payments", "operator": "NUM_GT", "value": "2"},
    ]
    strategy = {
        "name": "flexibleRollout",
        "parameters": {"rollout": "5", "stickiness": "userId", "groupId": "weilidai"},
        "constraints": constraints,
    }
    toggle = {"name": "weilidai", "enabled": True, "strategies": [strategy]}
    cache = FileCache("huidu-bench", directory=tempfile.mkdtemp())
    cache.bootstrap_from_dict({"version": 2, "features": [toggle]})
    client = UnleashClient(
        url="http://127.0.0.1:9",
        app_name="bench",
        cache=cache,
        disable_metrics=True,
        disable_registration=True,
    )
    client.initialize_client(fetch_toggles=False)

    def check(user: str, attributes: dict[str, Any]) -> bool:
        return client.is_enabled("weilidai", {"userId": user, "properties": attributes})

    return check, version("UnleashClient")
