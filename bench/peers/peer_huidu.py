"""The flag at Huidu: the direct client, and behind the standard interface."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from world import REGIONS, Check

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))


def make() -> tuple[Check, str]:
    return partial(client().check, "weilidai"), "checkout"


def make_visible() -> tuple[Check, str]:
    return partial(client().visible, "weilidai"), "checkout"


def make_openfeature() -> tuple[Check, str]:
    from huidu.sdk.provider import HuiduProvider

    return openfeature(HuiduProvider(client())), version("openfeature-sdk")


def bare_openfeature() -> Check:
    """The standard interface over a provider that answers a constant."""
    from openfeature.flag_evaluation import FlagResolutionDetails
    from openfeature.provider.no_op_provider import NoOpProvider

    class Constant(NoOpProvider):
        def resolve_boolean_details(self, flag_key, default_value, evaluation_context=None):  # type: ignore[no-untyped-def]
            return FlagResolutionDetails(True)

    return openfeature(Constant())


def openfeature(provider: Any) -> Check:
    from openfeature import api
    from openfeature.evaluation_context import EvaluationContext

    api.set_provider_and_wait(provider)
    flags = api.get_client()

    def check(user: str, attributes: dict[str, Any]) -> bool:
        return flags.get_boolean_value("weilidai", False, EvaluationContext(user, attributes))

    return check


def client() -> Any:
    """A client that started from a snapshot on disk and reaches nobody."""
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
    made = Client(nowhere, key, cache=folder, stream=False, poll_seconds=3600)
    assert made.ready
    return made
