"""The constants a rule may hold: each must have its attribute's type and lie in its range."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

import msgspec

from huidu.engine import values
from huidu.errors import RuleError
from huidu.model import Attribute, AttributeType

MAX_TEXT: Final = 1_000
"""Longest text a rule may hold, in characters."""

MAX_WHOLE: Final = 1 << 63
"""Whole numbers in rules lie between minus and plus this."""

_SHOWN_CHARACTERS: Final = 60


def shown(value: Any) -> str:
    """A value as an error message shows it: JSON, and not much of it."""
    try:
        text = "NaN" if value != value else msgspec.json.encode(value).decode()
    except Exception:  # whatever it is, its fault is what we are about to report
        text = repr(type(value))
    if value in (inf, -inf):
        text = "infinity"
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def constant(attribute: Attribute, value: Any, path: str) -> Any:
    """The constant in the form rules compare.

    Raises:
        RuleError: not of the attribute's type, or outside its range.
    """
    form = _READ[attribute.type](value)
    if form is None or not _in_range(attribute, form):
        raise RuleError(f"expected {expected(attribute)}, got {shown(value)}", path=path)
    return form


def expected(attribute: Attribute) -> str:
    """What a constant for the attribute must be, in words."""
    return _EXPECTED[attribute.type] + _range_in_words(attribute)


def _whole(value: Any) -> int | None:
    return value if type(value) is int and -MAX_WHOLE <= value <= MAX_WHOLE else None


def _number(value: Any) -> int | float | None:
    if type(value) is float:
        return value if -inf < value < inf else None
    return _whole(value)


def _text(value: Any) -> str | None:
    return value if type(value) is str and len(value) <= MAX_TEXT else None


def _day(value: Any) -> int | None:
    day = values.day_of(value) if type(value) is str else None
    return day if isinstance(day, int) else None


_READ: Final[dict[AttributeType, Callable[[Any], Any]]] = {
    AttributeType.INTEGER: _whole,
    AttributeType.NUMBER: _number,
    AttributeType.STRING: _text,
    AttributeType.BOOLEAN: lambda value: value if type(value) is bool else None,
    AttributeType.DATE: _day,
    AttributeType.REGION: lambda value: values.region_code(value) if type(value) is str else None,
    AttributeType.SEM_VER: lambda value: values.version_of(value) if type(value) is str else None,
    AttributeType.STRINGS: _text,
}

_EXPECTED: Final[dict[AttributeType, str]] = {
    AttributeType.INTEGER: "a whole number",
    AttributeType.NUMBER: "a number",
    AttributeType.STRING: f"a text of at most {MAX_TEXT} characters",
    AttributeType.BOOLEAN: "true or false",
    AttributeType.DATE: 'a date such as "2026-01-31"',
    AttributeType.REGION: 'a region code of six digits such as "440300"',
    AttributeType.SEM_VER: 'a version such as "8.0.30"',
    AttributeType.STRINGS: f"a text of at most {MAX_TEXT} characters",
}

_RANGED: Final = (AttributeType.INTEGER, AttributeType.NUMBER)


def _in_range(attribute: Attribute, form: Any) -> bool:
    if attribute.type not in _RANGED:
        return True
    least, most = attribute.minimum, attribute.maximum
    return (least is None or form >= least) and (most is None or form <= most)


def _range_in_words(attribute: Attribute) -> str:
    least, most = attribute.minimum, attribute.maximum
    if attribute.type not in _RANGED or (least is None and most is None):
        return ""
    if most is None:
        return f" of {least:.15g} or more"
    if least is None:
        return f" of {most:.15g} or less"
    return f" from {least:.15g} to {most:.15g}"
