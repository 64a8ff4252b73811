"""Facts about users as callers send them, checked against the registry. Pure but for the registry.

A fact is kept in the form its column or its JSON has: money and scores as `Decimal`, days as
`datetime.date` for columns and as ISO text for custom attributes.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from cohorts.columns import COLUMNS, RISK_DAY
from cohorts.models.profiles import FIRST_DAY, LAST_DAY
from cohorts.services.items import MAX_AMOUNT, id_fault
from huidu.engine.constants import expected, shown
from huidu.engine.values import known_value
from huidu.model import Attribute, AttributeSource, AttributeType

COMPUTED: Final = frozenset({"weekly_payments", "monthly_payments"})
MAX_TEXT: Final = 1_000
MAX_TEXTS: Final = 100
MAX_WHOLE: Final = 2**31 - 1

_RISK_DAY: Final = Attribute(id=0, name=RISK_DAY, type=AttributeType.DATE)
_FEN: Final = Decimal("0.01")

Fault = tuple[str, str]
"""A code and a sentence."""


class Facts:
    """One item read: the user and the new values by name, None for "unknown from now on"."""

    __slots__ = ("changes", "user_id")

    def __init__(self, user_id: str, changes: dict[str, Any]) -> None:
        self.user_id = user_id
        self.changes = changes


def read(
    item: Mapping[str, Any],
    registry: Mapping[str, Attribute],
    today: datetime.date,
    retired: Collection[str] = (),
) -> Facts | Fault:
    """The facts of one item, or why it is rejected as a whole.

    Args:
        item: ``user_id`` and facts by name; a missing one stays as it is, null clears it.
        registry: attributes by name.
        today: the day of scores that do not tell theirs.
        retired: names that were registered once and are taken no longer.
    """
    user_id = item.get("user_id")
    if user_id is None:
        return "user_id.missing", "expected a value, got none"
    if not isinstance(user_id, str):
        return "user_id.invalid", f"expected a text, got {shown(user_id)}"
    if sentence := id_fault(user_id):
        return "user_id.invalid", sentence
    changes: dict[str, Any] = {}
    for name, value in item.items():
        if name == "user_id":
            continue
        attribute = _RISK_DAY if name == RISK_DAY else registry.get(name)
        if attribute is None and name in retired:
            return "attribute.retired", f"{name} is retired: leave it out"
        if attribute is None:
            return "attribute.unknown", (
                f"expected one of {', '.join(sorted(settable(registry)))}; got {name[:64]!r}"
            )
        if name in COMPUTED:
            return "attribute.computed", f"{name} is counted from payments; send those"
        if attribute.source is AttributeSource.CALLER:
            return "attribute.caller_only", f"{name} is told at the check by the caller"
        try:
            changes[name] = None if value is None else _fact(attribute, value, today)
        except ValueError as fault:
            return "attribute.invalid", f"{name}: {fault}"
    return _with_risk_day(user_id, changes, today)


def settable(registry: Mapping[str, Attribute]) -> list[str]:
    """Names of the facts that callers may send."""
    held = [
        name
        for name, attribute in registry.items()
        if attribute.source is not AttributeSource.CALLER and name not in COMPUTED
    ]
    return [*held, RISK_DAY]


def _with_risk_day(user_id: str, changes: dict[str, Any], today: datetime.date) -> Facts | Fault:
    """A score and its day go together: a score without one was given today."""
    if "risk_score" in changes:
        if changes["risk_score"] is None:
            changes[RISK_DAY] = None
        elif changes.get(RISK_DAY) is None:
            changes[RISK_DAY] = today
    elif RISK_DAY in changes:
        return "attribute.invalid", f"{RISK_DAY}: expected risk_score beside it, got none"
    return Facts(user_id, changes)


def _fact(attribute: Attribute, value: Any, today: datetime.date) -> Any:
    """The value in the form it is stored. Raises `ValueError` with a sentence."""
    if type(value) is Decimal:  # rows of files are read exactly
        value = int(value) if value == value.to_integral_value() else float(value)
    if known_value(attribute, value) is None:
        raise ValueError(f"expected {expected(attribute)}, got {shown(value)}")
    column = COLUMNS.get(attribute.name)
    return _CUSTOM[attribute.type](value) if column is None else _COLUMN[column](value, today)


def _whole_column(value: Any, _: datetime.date) -> int:
    if value > MAX_WHOLE:
        raise ValueError(f"expected at most {MAX_WHOLE}, got {shown(value)}")
    return int(value)


def _money(value: Any, _: datetime.date) -> Decimal:
    if value > MAX_AMOUNT:
        raise ValueError(f"expected at most {MAX_AMOUNT}, got {shown(value)}")
    return _hundredths(value, _)


def _hundredths(value: Any, _: datetime.date) -> Decimal:
    return Decimal(repr(value)).quantize(_FEN, ROUND_HALF_EVEN)


def _day(value: Any, today: datetime.date) -> datetime.date:
    day = value if isinstance(value, datetime.date) else datetime.date.fromisoformat(value)
    last = min(today + datetime.timedelta(days=1), LAST_DAY)
    if not FIRST_DAY <= day <= last:
        raise ValueError(f"expected a day from {FIRST_DAY} to {last}, got {day}")
    return day


def _text(value: Any) -> str:
    if len(value) > MAX_TEXT or "\0" in value or _is_broken(value):
        raise ValueError(f"expected Unicode text of at most {MAX_TEXT} characters without NUL")
    return str(value)


def _texts(value: Any) -> list[str]:
    if len(value) > MAX_TEXTS:
        raise ValueError(f"expected at most {MAX_TEXTS} texts, got {len(value)}")
    return [_text(each) for each in value]


def _whole(value: Any) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"expected a number of 64 bits, got {shown(value)}")
    return int(value)


def _number(value: Any) -> int | float:
    return value if isinstance(value, float) else _whole(value)


def _is_broken(text: str) -> bool:
    """Holds half of a surrogate pair, which is no Unicode text."""
    return any("\ud800" <= each <= "\udfff" for each in text)


_COLUMN: Final[dict[str, Callable[[Any, datetime.date], Any]]] = {
    "text": lambda value, _: str(value),
    "bool": lambda value, _: value,
    "whole": _whole_column,
    "money": _money,
    "score": _hundredths,
    "day": _day,
}
_CUSTOM: Final[dict[AttributeType, Callable[[Any], Any]]] = {
    AttributeType.INTEGER: _whole,
    AttributeType.NUMBER: _number,
    AttributeType.STRING: _text,
    AttributeType.BOOLEAN: lambda value: value,
    AttributeType.DATE: str,
    AttributeType.REGION: str,
    AttributeType.SEM_VER: _text,
    AttributeType.STRINGS: _texts,
}
