"""Whether single values of a snapshot make sense: keys, shares, JSON, and no more than a few.

Each function raises `SnapshotError` with the path it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from typing import Any, Final

from huidu.engine.constants import shown
from huidu.errors import SnapshotError
from huidu.model import PPM, ValueType

MAX_PARTS: Final = 100
"""Most gates, stages, tiers, variants, weights or prerequisites of one flag."""

MAX_KEY: Final = 200
MAX_JSON_DEPTH: Final = 20


def unique(path: str, name: str, found: Iterable[Any]) -> None:
    """Nothing is found twice."""
    seen = set()
    for each in found:
        if each in seen:
            raise SnapshotError(f"expected each {name} once, got {shown(each)} twice", path=path)
        seen.add(each)


def key_text(text: str, path: str) -> None:
    """A text that is neither empty nor long."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_KEY:
        raise SnapshotError(f"expected a text of 1 to {MAX_KEY} characters", path=path)


def share(share_ppm: int, path: str) -> None:
    """A whole number of ppm, 0 to 1,000,000."""
    if type(share_ppm) is not int or not 0 <= share_ppm <= PPM:
        raise SnapshotError(f"expected 0 to {PPM}, got {shown(share_ppm)}", path=path)


def few(parts: Sequence[Any], path: str) -> None:
    """At most `MAX_PARTS`."""
    if len(parts) > MAX_PARTS:
        raise SnapshotError(f"expected at most {MAX_PARTS}, got {len(parts)}", path=path)


def json_value(value: Any, path: str, depth: int = 0) -> None:
    """Only values that JSON carries unchanged: no NaN, no infinity, no endless nesting."""
    if depth > MAX_JSON_DEPTH:
        raise SnapshotError(f"expected at most {MAX_JSON_DEPTH} levels", path=path)
    match value:
        case None | bool() | int() | str():
            return
        case float() if isfinite(value):
            return
        case list():
            for index, each in enumerate(value):
                json_value(each, f"{path}[{index}]", depth + 1)
        case dict() if all(isinstance(key, str) for key in value):
            for key, each in value.items():
                json_value(each, f"{path}.{key}", depth + 1)
        case _:
            raise SnapshotError(f"expected a JSON value, got {shown(value)}", path=path)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


FITS: Final[dict[ValueType, Callable[[Any], bool]]] = {
    ValueType.BOOLEAN: lambda value: isinstance(value, bool),
    ValueType.STRING: lambda value: isinstance(value, str),
    ValueType.INTEGER: lambda value: isinstance(value, int) and not isinstance(value, bool),
    ValueType.FLOAT: _is_number,
    ValueType.OBJECT: lambda value: isinstance(value, dict | list),
}
"""Whether a value is of a flag's type."""
