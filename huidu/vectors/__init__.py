"""Conformance cases as JSON: engine, HTTP API and SDK run the same files.

A suite is one snapshot and the answers it must give:

    {"description", "snapshot": {...},
     "cases": [{"description", "flag", "user": {"key", "attributes", "admissions", "lists"},
                "expect": {"visible", "variant", "value", "reason", "why", "stage", "payload"}}]}

All attributes of the suites may be said by the caller. Who can only send a context runs the cases
whose user has neither admissions nor lists (`Case.needs_memory` is false).
`buckets`, `draws` and `risks` are tables of their own; 64-bit numbers stand in them as texts, since
some readers of JSON would round them.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

import msgspec

from huidu.model import Snapshot, User

SUITES: Final = ("identity", "rules", "regions", "stages", "payload", "prerequisites")


class Expect(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer must say; see `huidu.model.Answer`."""

    visible: bool
    variant: str | None
    value: Any
    reason: str
    why: str
    stage: str | None
    payload: dict[str, Any]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One question and its answer."""

    description: str
    flag: str
    user: User
    expect: Expect

    @property
    def needs_memory(self) -> bool:
        """Whether the user has what only the platform remembers: admissions or lists."""
        return bool(self.user.admissions or self.user.lists)


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot and questions to it."""

    description: str
    snapshot: Snapshot
    cases: list[Case]


def load(name: str) -> Suite:
    """One of `SUITES`."""
    return msgspec.json.decode(_text(name), type=Suite)


def buckets() -> list[tuple[str, str, int]]:
    """Salt, key, and the key's bucket (formula 1)."""
    return [(case["salt"], case["key"], int(case["bucket"])) for case in _table("bucketing")]


def draws() -> list[dict[str, Any]]:
    """Draws: ``salt, keys, weights, share_ppm``, the ``threshold`` and the keys ``admitted``."""
    return [{**case, "threshold": int(case["threshold"])} for case in _table("draws")]


def risks() -> list[dict[str, Any]]:
    """Decays: ``base``, ``scored_on``, ``today``, ``risk`` (to 9 digits)."""
    return _table("risks")


def _table(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(_text(name))["cases"]
    return cases


def _text(name: str) -> bytes:
    return resources.files(__name__).joinpath(f"{name}.json").read_bytes()
