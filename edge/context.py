"""Which facts count: what the platform holds, and what the caller may say with its key.

    source    server or admin key               client key
    held      held, whatever the caller says    held
    caller    the caller's                      the caller's
    either    the caller's, else held           held

A client key sits in the user's own hands, so it may say only what nobody else could know (the
version of the application, its language), never what the platform vouches for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from huidu import reasons
from huidu.engine.values import UNKNOWN, known_value
from huidu.errors import InputError
from huidu.model import Attribute, AttributeSource, AttributeType
from huidu.wire.access import KeyKind

_EXPECTED: Final = {
    AttributeType.INTEGER: "a whole number",
    AttributeType.NUMBER: "a number",
    AttributeType.STRING: "a string",
    AttributeType.BOOLEAN: "true or false",
    AttributeType.DATE: "a date such as 2026-01-31",
    AttributeType.REGION: "a region code of six digits such as 440300",
    AttributeType.SEM_VER: "a version such as 8.0.41",
    AttributeType.STRINGS: "a list of strings",
}


def sayable(attributes: Iterable[Attribute], kind: KeyKind) -> dict[str, Attribute]:
    """The attributes whose value a caller with this kind of key may say, by name."""
    sources = {AttributeSource.CALLER}
    if kind in (KeyKind.SERVER, KeyKind.ADMIN):
        sources.add(AttributeSource.EITHER)
    return {each.name: each for each in attributes if each.source in sources}


def said(context: Mapping[str, Any], sayable: Mapping[str, Attribute]) -> dict[str, Any]:
    """The caller's values that count.

    Names that are not registered, or that this key may not say, are passed over: OpenFeature
    contexts are shared by many providers and carry anything. Null means unknown.

    Raises:
        InputError: a value that counts has the wrong type or lies outside the registered range
            (`INVALID_CONTEXT`): a caller's mistake must not look like a user nobody knows.
    """
    values: dict[str, Any] = {}
    for name, value in context.items():
        attribute = sayable.get(name)
        if attribute is None or value is None:
            continue
        if known_value(attribute, value) is UNKNOWN:
            raise InputError(
                f"expected {expected(attribute)}, got {_shown(value)}",
                path=f"context.{name}",
                code=reasons.INVALID_CONTEXT,
            )
        values[name] = value
    return values


def expected(attribute: Attribute) -> str:
    """What would be right, in words."""
    words = _EXPECTED[attribute.type]
    if attribute.type not in (AttributeType.INTEGER, AttributeType.NUMBER):
        return words
    if attribute.minimum is not None and attribute.maximum is not None:
        return f"{words} from {attribute.minimum:g} to {attribute.maximum:g}"
    if attribute.minimum is not None:
        return f"{words} of {attribute.minimum:g} or more"
    if attribute.maximum is not None:
        return f"{words} of {attribute.maximum:g} or less"
    return words


def _shown(value: Any) -> str:
    """A value as an error may repeat it: short, and no longer than a glance."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
