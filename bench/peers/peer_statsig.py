"""The flag at Statsig: a gate with two conditions."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from world import REGIONS, Check


def make() -> tuple[Check, str]:
    from statsig_python_core import (
        DataStore,
        DataStoreResponse,
        Statsig,
        StatsigOptions,
        StatsigUser,
    )

    def condition(kind: str, operator: str, target: Any, field: str) -> dict[str, Any]:
        return {
            "type": kind,
            "targetValue": target,
            "operator": operator,
            "field": field,
            "additionalValues": {},
            "isDeviceBased": False,
            "idType": "userID",
        }

    specs = {
        "has_updates": True,
        "time": 1,
        "layer_configs": {},
        "dynamic_configs": {},
        "layers": {},
        "id_lists": {},
        "experiment_to_layer": {},
        "app_id": "a",
        "sdk_keys_to_app_ids": {},
        "condition_map": {
            "1": condition("user_field", "any", REGIONS, "region"),
            "2": condition("user_field", "gt", 2, "weekly_payments"),
        },
        "feature_gates": {
            "weilidai": {
                "name": "weilidai",
                "type": "feature_gate",
                "salt": "s",
                "enabled": True,
                "defaultValue": False,
                "idType": "userID",
                "entity": "feature_gate",
                "rules": [
                    {
                        "name": "r",
                        "groupName": "five",
                        "passPercentage": 5,
                        "conditions": ["1", "2"],
                        "returnValue": True,
                        "id": "r",
                        "salt": "r",
                        "idType": "userID",
                    }
                ],
            }
        },
    }

    class Store(DataStore):  # type: ignore[misc]
        def get(self, key: str) -> DataStoreResponse:
            return DataStoreResponse(result=json.dumps(specs), time=1)

    options = StatsigOptions(data_store=Store(), disable_network=True, disable_all_logging=True)
    client = Statsig("secret-key", options)
    client.initialize().wait()

    def check(user: str, attributes: dict[str, Any]) -> bool:
        return client.check_gate(StatsigUser(user, custom=attributes), "weilidai")

    return check, version("statsig-python-core")
