"""The flag at Flagsmith: a segment of an environment, from a file."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from world import REGIONS, Check


def make() -> tuple[Check, str]:
    from flagsmith import Flagsmith
    from flagsmith.offline_handlers import OfflineHandler

    def condition(name: str, operator: str, value: str) -> dict[str, Any]:
        return {"property_": name, "operator": operator, "value": value}

    feature = {"id": 1, "name": "weilidai", "type": "STANDARD"}

    def state(number: int, enabled: bool) -> dict[str, Any]:
        return {
            "id": number,
            "enabled": enabled,
            "feature": feature,
            "feature_segment": None,
            "django_id": number,
            "featurestate_uuid": f"00000000-0000-0000-0000-00000000000{number}",
            "feature_state_value": None,
            "multivariate_feature_state_values": [],
        }

    conditions = [
        condition("region", "IN", ",".join(REGIONS)),
        condition("weekly_payments", "GREATER_THAN", "2"),
        condition("", "PERCENTAGE_SPLIT", "5"),
    ]
    segment = {
        "id": 1,
        "name": "five",
        "feature_states": [state(2, True)],
        "rules": [{"type": "ALL", "conditions": conditions, "rules": []}],
    }
    environment = {
        "id": 1,
        "api_key": "key",
        "name": "production",
        "feature_states": [state(1, False)],
        "identity_overrides": [],
        "project": {
            "id": 1,
            "name": "p",
            "hide_disabled_flags": False,
            "segments": [segment],
            "organisation": {
                "id": 1,
                "name": "o",
                "feature_analytics": False,
                "stop_serving_flags": False,
                "persist_trait_data": False,
            },
        },
    }
    file = Path(tempfile.mkdtemp()) / "environment.json"
    file.write_text(json.dumps(environment))
    from flagsmith.offline_handlers import LocalFileHandler

    handler: OfflineHandler = LocalFileHandler(str(file))
    client = Flagsmith(offline_mode=True, offline_handler=handler)

    def check(user: str, attributes: dict[str, Any]) -> bool:
        return bool(client.get_identity_flags(user, attributes).is_feature_enabled("weilidai"))

    return check, version("flagsmith")
