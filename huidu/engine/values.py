"""What an attribute's raw value means, or that it means nothing.

A value of the wrong type, or outside the attribute's registered range, is *unknown*: it is never
bent into something a rule could like. Each type has a form that rules compare:

    integer, number     the number; unknown is NaN, which no comparison holds for
    date                the day's ordinal; unknown is NaN
    string, region      the text; unknown is None
    sem_ver             a tuple that orders like SemVer 2.0.0; unknown is None
    boolean, strings    itself; unknown is None

The functions are named in generated code, where a value of exactly the usual type passes by them.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from math import inf, nan
from typing import Any, Final, Generic, TypeVar

from huidu.model import Attribute, AttributeType

UNKNOWN: Final = None
"""What `known_value` answers for an unknown value."""

SemVer = tuple[int, int, int, tuple[Any, ...]]

_V = TypeVar("_V")

MEMO_LIMIT: Final = 20_000
"""Most entries a memo keeps, so that odd values sent by callers cannot fill the memory."""


class Table(dict[Any, _V], Generic[_V]):
    """Answers by argument: a known argument costs one look-up in C.

    Arguments must be hashable. Past `limit` entries answers are made again each time.
    """

    __slots__ = ("_limit",)

    def __init__(self, limit: int = MEMO_LIMIT) -> None:
        super().__init__()
        self._limit = limit

    def make(self, argument: Any) -> _V:
        """The answer to an argument met for the first time."""
        raise NotImplementedError

    def __missing__(self, argument: Any) -> _V:
        answer = self.make(argument)
        if len(self) < self._limit:
            self[argument] = answer
        return answer


class Memo(Table[_V]):
    """A function's answers by argument.

    A table whose answers are its own method's is a `Table`: with the method it would hold itself.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[Any], _V], limit: int = MEMO_LIMIT) -> None:
        super().__init__(limit)
        self._function = function

    def make(self, argument: Any) -> _V:
        return self._function(argument)


def whole(value: Any) -> int | float:
    """The integer a value is, else NaN. JSON does not tell 20 from 20.0, so both are 20."""
    if isinstance(value, int):
        return nan if isinstance(value, bool) else int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return nan


def number(value: Any) -> int | float:
    """The finite number a value is, else NaN. True and false are not numbers."""
    if isinstance(value, int):
        return nan if isinstance(value, bool) else int(value)
    if isinstance(value, float) and -inf < value < inf:
        return float(value)
    return nan


def text(value: Any) -> str | None:
    """The text a value is, else None. Subclasses of `str` count as the text they hold."""
    return str.__str__(value) if isinstance(value, str) else None


def strings(value: Any) -> frozenset[str] | None:
    """The strings a list holds, else None."""
    if isinstance(value, list | tuple | frozenset | set) and all(
        isinstance(each, str) for each in value
    ):
        return frozenset(map(str.__str__, value))
    return None


def day_of(value: Any) -> int | float:
    """Ordinal of the day a value names as ``YYYY-MM-DD`` or `datetime.date`, else NaN."""
    if type(value) is datetime.date:
        return value.toordinal()
    as_text = text(value)
    if as_text is None or len(as_text) != 10 or as_text[4] != "-" or as_text[7] != "-":
        return nan
    try:
        return datetime.date.fromisoformat(as_text).toordinal()
    except ValueError:
        return nan


_SEM_VER: Final = re.compile(
    r"v?(\d{1,18})(?:\.(\d{1,18}))?(?:\.(\d{1,18}))?"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?",
    re.ASCII,
)


def version_of(value: Any) -> SemVer | None:
    """A tuple that orders like SemVer 2.0.0 precedence, else None.

    ``8.0`` means ``8.0.0`` and a leading ``v`` is allowed, as application versions are written.

    Source:
        Semantic Versioning 2.0.0, section 11.
    """
    as_text = text(value)
    if as_text is None or len(as_text) > 256:
        return None
    match = _SEM_VER.fullmatch(as_text)
    if match is None:
        return None
    major, minor, patch, pre = match.groups()
    return int(major), int(minor or 0), int(patch or 0), _pre_release_order(pre)


def _pre_release_order(pre: str | None) -> tuple[Any, ...]:
    if pre is None:
        return ((2,),)  # a release comes after all its pre-releases
    # Numbers order as numbers and before words; a longer list of identifiers comes later.
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in pre.split("."))


def region_code(value: Any) -> str | None:
    """A GB/T 2260 code of six digits, else None."""
    as_text = text(value)
    if as_text is None or len(as_text) != 6 or not as_text.isascii() or not as_text.isdigit():
        return None
    return as_text


def region_and_parents(code: str) -> Iterator[str]:
    """A code and the codes that contain it, nearest first: 440305, 440300, 440000."""
    yield code
    seen = {code}
    for parent in (code[:4] + "00", code[:2] + "0000"):
        if parent not in seen:
            seen.add(parent)
            yield parent


DAYS: Final[Memo[int | float]] = Memo(day_of)
VERSIONS: Final[Memo[SemVer | None]] = Memo(version_of)

MET_REGIONS: Final[set[str]] = set()
"""Region codes that `REGION_CODES` was asked for: a plain set, asked first, answers sooner."""


def _met_region(value: Any) -> str | None:
    code = region_code(value)
    if code is not None and len(MET_REGIONS) < MEMO_LIMIT:
        MET_REGIONS.add(code)
    return code


REGION_CODES: Final[Memo[str | None]] = Memo(_met_region)

_FORM: Final[dict[AttributeType, Callable[[Any], Any]]] = {
    AttributeType.INTEGER: whole,
    AttributeType.NUMBER: number,
    AttributeType.STRING: text,
    AttributeType.BOOLEAN: lambda value: value if type(value) is bool else None,
    AttributeType.DATE: day_of,
    AttributeType.REGION: region_code,
    AttributeType.SEM_VER: version_of,
    AttributeType.STRINGS: strings,
}


def known_value(attribute: Attribute, value: Any) -> Any:
    """The value in the form rules compare, or `UNKNOWN`: missing, mistyped or out of range."""
    form = _FORM[attribute.type](value)
    if form is None or form != form:  # NaN, said without asking for its type
        return UNKNOWN
    if attribute.type in (AttributeType.INTEGER, AttributeType.NUMBER):
        if attribute.minimum is not None and form < attribute.minimum:
            return UNKNOWN
        if attribute.maximum is not None and form > attribute.maximum:
            return UNKNOWN
    return form
