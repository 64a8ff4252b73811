"""The flag at LaunchDarkly: a rule with a rollout, from a file."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from world import REGIONS, Check


def make() -> tuple[Check, str]:
    import ldclient
    from ldclient.config import Config
    from ldclient.integrations import Files

    flag = {
        "key": "weilidai",
        "version": 1,
        "on": True,
        "salt": "s",
        "variations": [True, False],
        "offVariation": 1,
        "fallthrough": {"variation": 1},
        "prerequisites": [],
        "targets": [],
        "rules": [
            {
                "id": "r",
                "clauses": [
                    {"attribute": "region", "op": "in", "values": REGIONS},
                    {"attribute": "weekly_payments", "op": "greaterThan", "values": [2]},
                ],
                "rollout": {
                    "variations": [
                        {"variation": 0, "weight": 5_000},
                        {"variation": 1, "weight": 95_000},
                    ]
                },
            }
        ],
    }
    file = Path(tempfile.mkdtemp()) / "flags.json"
    file.write_text(json.dumps({"flags": {"weilidai": flag}}))
    source = Files.new_data_source(paths=[str(file)])
    client = ldclient.LDClient(
        Config("key", update_processor_class=source, send_events=False), start_wait=5
    )
    builder = ldclient.Context.builder

    def check(user: str, attributes: dict[str, Any]) -> bool:
        context = builder(user)
        for name, value in attributes.items():
            context.set(name, value)
        return bool(client.variation("weilidai", context.build(), False))

    return check, version("launchdarkly-server-sdk")
