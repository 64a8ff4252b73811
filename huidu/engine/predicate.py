"""One rule as Python functions, for those who ask it about millions of users."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from huidu.engine.nodes import Node
from huidu.engine.writer import Writer
from huidu.model import AttributeSource

Predicate = Callable[[str, Mapping[str, Any]], bool]

_EVERY_SOURCE = frozenset(AttributeSource)


def predicate(rule: Node, claim: bool = True) -> Predicate:
    """Whether a rule is definitely `claim`, as a function of a user's key and attributes.

    It says ``rule.truth(...) is claim`` in a fraction of the time, because its code is the code
    that checks are made of. A rule that is definitely neither is unknown.
    """
    out = Writer(_EVERY_SOURCE)
    # The source first: it adds the lines that load what it reads.
    source = rule.source(claim, out)
    out.line(f"return {source}")
    check = out.function()

    def definitely(key: str, attributes: Mapping[str, Any]) -> bool:
        # The source is true or not, but not always a bool: None where an attribute is missing.
        return bool(check(key, attributes, None, None))

    return definitely
