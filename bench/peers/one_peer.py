"""Times one peer in this process; see `bench/local_check.py`, which starts it."""

from __future__ import annotations

import gc
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

USERS = 20_000
ROUNDS = 15
TIMED = 1_000  # few enough that memory is not what is measured
REPEATS = 10

Check = Callable[[str, dict[str, Any]], bool]

REGIONS = ["440300", "310000"]


def population() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"openid-{n:08x}", {"region": "440300" if n % 2 else "410100", "weekly_payments": 12})
        for n in range(USERS)
    ]


def huidu_client() -> Any:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
    from huidu.model import (
        Attribute,
        AttributeSource,
        AttributeType,
        Flag,
        Gate,
        Rollout,
        RolloutStatus,
        Snapshot,
        Stage,
    )
    from huidu.sdk import Client
    from huidu.sdk.snapshots import Disk
    from huidu.wire import snapshot as wire

    either = AttributeSource.EITHER
    gates = [
        Gate(
            key="region",
            dimension="region",
            why="region.closed",
            rule={"in": [{"var": "region"}, REGIONS]},
        ),
        Gate(
            key="activity",
            dimension="activity",
            why="activity.too_low",
            rule={">": [{"var": "weekly_payments"}, 2]},
        ),
    ]
    stage = Stage(key="five", share_ppm=50_000, threshold=50_000 * 2**64 // 1_000_000)
    rollout = Rollout(slot=1, salt="s", status=RolloutStatus.RUNNING, stages=[stage], current=0)
    snapshot = Snapshot(
        environment="production",
        sequence=1,
        published_at="2026-01-01T00:00:00Z",
        attributes=[
            Attribute(id=1, name="region", type=AttributeType.REGION, source=either),
            Attribute(id=2, name="weekly_payments", type=AttributeType.INTEGER, source=either),
        ],
        cohorts=[],
        flags=[Flag(key="weilidai", version=1, gates=gates, rollout=rollout)],
    )
    folder = Path(tempfile.mkdtemp())
    nowhere, key = "http://127.0.0.1:9", "hd_server_bench"
    Disk(folder, nowhere, key).save(wire.encode(snapshot))
    client = Client(nowhere, key, cache=folder, stream=False, poll_seconds=3600)
    assert client.ready
    return client


def huidu() -> tuple[Check, str]:
    return partial(huidu_client().check, "weilidai"), "checkout"


def openfeature(provider: Any) -> Check:
    from openfeature import api
    from openfeature.evaluation_context import EvaluationContext

    api.set_provider(provider)
    flags = api.get_client()

    def check(user: str, attributes: dict[str, Any]) -> bool:
        return flags.get_boolean_value("weilidai", False, EvaluationContext(user, attributes))

    return check


def huidu_openfeature() -> tuple[Check, str]:
    client = huidu_client()
    from huidu.sdk.provider import HuiduProvider

    return openfeature(HuiduProvider(client)), version("openfeature-sdk")


def unleash() -> tuple[Check, str]:
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


def launchdarkly() -> tuple[Check, str]:
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


def growthbook() -> tuple[Check, str]:
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


def flagsmith() -> tuple[Check, str]:
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


def posthog() -> tuple[Check, str]:
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


def statsig() -> tuple[Check, str]:
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


def nothing(user: str, attributes: dict[str, Any]) -> bool:
    return True


def bare_openfeature() -> Check:
    """The standard interface over a provider that answers a constant."""
    from openfeature.flag_evaluation import FlagResolutionDetails
    from openfeature.provider.no_op_provider import NoOpProvider

    class Constant(NoOpProvider):
        def resolve_boolean_details(self, flag_key, default_value, evaluation_context=None):  # type: ignore[no-untyped-def]
            return FlagResolutionDetails(True)

    return openfeature(Constant())


def time_of(check: Check, users: list[tuple[str, dict[str, Any]]]) -> float:
    """Seconds for one check, best of `ROUNDS`."""
    best = float("inf")
    if isinstance(check, partial):  # called as an application would, without the partial's cost
        return time_of_direct(check.func, check.args[0], users)
    gc.disable()
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(REPEATS):
            for user, attributes in users:
                check(user, attributes)
        best = min(best, time.perf_counter() - started)
    gc.enable()
    return best / len(users) / REPEATS


def time_of_direct(check: Callable[..., Any], flag: str, users: list[Any]) -> float:
    """As `time_of`, for a check that takes the flag as its first argument."""
    best = float("inf")
    gc.disable()
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(REPEATS):
            for user, attributes in users:
                check(flag, user, attributes)
        best = min(best, time.perf_counter() - started)
    gc.enable()
    return best / len(users) / REPEATS


def floor(users: list[tuple[str, dict[str, Any]]]) -> float:
    """An empty call plus one hash, timed in the same loop as the checks."""
    from xxhash import xxh3_64_intdigest

    def hashed(user: str, attributes: dict[str, Any]) -> int:
        return xxh3_64_intdigest(user.encode())

    return time_of(hashed, users)


def main() -> None:
    logging.disable(logging.CRITICAL)
    peer = sys.argv[1]
    makers = {
        "huidu": huidu,
        "huidu-openfeature": huidu_openfeature,
        "unleash": unleash,
        "launchdarkly": launchdarkly,
        "growthbook": growthbook,
        "flagsmith": flagsmith,
        "statsig": statsig,
        "posthog": posthog,
    }
    users = population()
    check, shown_version = makers[peer]()
    few = users[:TIMED]
    answers = [check(*each) for each in users]
    admitted = sum(getattr(each, "visible", each) for each in answers) / len(users)
    if not 0.02 < admitted < 0.03:
        raise SystemExit(f"{peer} admits {admitted:.2%}, expected about 2.5 %")
    result = {
        "version": shown_version,
        "check_us": time_of(check, few) * 1e6,
        "floor_us": floor(few) * 1e6,
        "admitted": admitted,
    }
    result["floors"] = result["check_us"] / result["floor_us"]
    if peer == "huidu-openfeature":
        result["bare_us"] = time_of(bare_openfeature(), few) * 1e6
    print(json.dumps(result))
    sys.stdout.flush()
    import os

    os._exit(0)  # some peers hold the process with threads of theirs


if __name__ == "__main__":
    main()
