"""Rules checked where they are written, against the registry and the cohorts as they are now."""

from __future__ import annotations

from typing import Any

from cohorts import mappers as who
from huidu.engine import rules


def validate_rule(rule: Any, *, path: str) -> None:
    """Make sure that a rule can be compiled.

    Raises:
        RuleError: `path` says where, the message what stood there and what would be right.
    """
    cohorts = {each.key: each for each in who.cohorts()}
    rules.validate(rule, who.open_registry(), cohorts, path=path)
