"""A packed profile for one check: each fact is made when a rule first reads it.

A rule reads two or three facts of twenty, and decoding all of them costs more than the check. One
regular expression per layout (the first two bytes of a record) finds where every field lies; what
a field says is worked out on demand. The format is told in `huidu.wire.record`, whose `read` says
the same the long way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache
from typing import Any, Final

import msgspec

from huidu.errors import ProfileError
from huidu.model import Admission
from huidu.risk import faded
from huidu.wire import record, ring

Admissions = Mapping[int, Admission]
Reader = Callable[["Facts", bytes], Any]

WINDOWS: Final = (7, 30)
"""Days of `weekly_payments` and `monthly_payments`."""

_LEB: Final = rb"([\x80-\xff]*+[\x00-\x7f])"
_DAY: Final = rb"(..)"
_EPOCH: Final = date(1970, 1, 1).toordinal()
_NO_ADMISSIONS: Final[dict[int, Admission]] = {}
_NO_LISTS: Final[frozenset[int]] = frozenset()
_read_custom: Final = msgspec.msgpack.Decoder(dict[int, Any]).decode


class Layout(msgspec.Struct, frozen=True):
    """Where the fields of one kind of record lie.

    Args:
        match: finds the fields; the last group is the ring and the tail.
        readers: for each attribute its group and what makes a value of it.
        ring: whether the last group begins with a ring.
        tail: whether it ends with admissions, lists and custom facts.
    """

    match: Callable[[bytes], re.Match[bytes] | None]
    readers: dict[str, tuple[int, Reader]]
    ring: bool
    tail: bool


class Facts(dict[str, Any]):
    """Attributes by name, made when they are first asked for with `facts[name]`.

    Only for that: what nobody asked for yet is not there for `in`, `get` and iteration.
    """

    __slots__ = ("fields", "readers", "today")

    def __init__(
        self, fields: re.Match[bytes], readers: dict[str, tuple[int, Reader]], today: int
    ) -> None:
        self.fields = fields
        self.readers = readers
        self.today = today

    def __missing__(self, name: str) -> Any:
        group, read = self.readers[name]
        value = self[name] = read(self, self.fields[group])
        return value

    def verify(self) -> None:
        """Raises `ProfileError` when any of the record, not only what was asked for, is damaged."""
        for name in record.read(self.fields.string):
            if name == "counts":
                self["weekly_payments"]


def facts_of(
    data: bytes, today: int, custom_names: Mapping[int, str]
) -> tuple[dict[str, Any], Admissions, frozenset[int]]:
    """What a record says on `today`: attributes, admissions by rollout slot, numbers of big lists.

    Reading an attribute of a damaged record raises `ProfileError` or `IndexError`, at the latest
    `huidu.wire.record.read` does.

    Args:
        today: proleptic ordinal of the day in the platform's zone.
        custom_names: names of the registered custom attributes by slot.
    Raises:
        ProfileError: of another format, or cut off.
    """
    layout = _layout(data[:2])
    fields = layout.match(data)
    if fields is None:
        raise ProfileError(f"a damaged record of {len(data)} bytes")
    facts = Facts(fields, layout.readers, today)
    if not layout.tail:
        return facts, _NO_ADMISSIONS, _NO_LISTS
    rest = fields[fields.re.groups]
    try:
        admissions, lists, custom = _tail(rest, ring.length(rest, 0) if layout.ring else 0)
    except (IndexError, ValueError, msgspec.MsgspecError) as error:
        raise ProfileError(f"a damaged record of {len(data)} bytes: {error}") from error
    for slot, value in custom.items():
        if slot in custom_names:
            facts[custom_names[slot]] = value
    return facts, admissions, lists


def _tail(data: bytes, at: int) -> tuple[Admissions, frozenset[int], dict[int, Any]]:
    """Admissions, lists and custom facts by slot, from `at` on."""
    number = record.read_number
    admissions: Admissions = _NO_ADMISSIONS
    lists = _NO_LISTS
    many, at = number(data, at)
    if many:
        found = {}
        for _ in range(many):
            slot, at = number(data, at)
            packed, at = number(data, at)
            found[slot] = record.admission_of(packed)
        admissions = found
    many, at = number(data, at)
    if many:
        numbers = []
        for _ in range(many):
            listed, at = number(data, at)
            numbers.append(listed)
        lists = frozenset(numbers)
    return admissions, lists, _read_custom(data[at:]) if at < len(data) else {}


# What a field's bytes say


def _number(text: bytes) -> int:
    value = text[-1]
    for byte in text[-2::-1]:  # none for most numbers
        value = value << 7 | byte & 0x7F
    return value


def _money(text: bytes) -> int | float:
    number = _number(text)
    return (number >> 1) / 100 if number & 1 else number >> 1


@lru_cache(4096)
def _region(text: bytes) -> str:
    return record.region_code(_number(text))


def _yes_no(bit: int, name: str) -> Reader:
    def read(_facts: Facts, text: bytes) -> bool:
        if len(text) > 1 and not text[1] >> bit & 1:
            raise KeyError(name)
        return bool(text[0] >> bit & 1)

    return read


def _read_day(_facts: Facts, text: bytes) -> date:
    return date.fromordinal(_EPOCH + (text[0] | text[1] << 8))


def _read_number(_facts: Facts, text: bytes) -> int:
    return _number(text)


def _read_money(_facts: Facts, text: bytes) -> int | float:
    return _money(text)


def _read_region(_facts: Facts, text: bytes) -> str:
    return _region(text)


def _risk(day: int, scored: int) -> Reader:
    """Reads the score as it has faded; `day` and `scored` are the groups of its days."""

    def read(facts: Facts, text: bytes) -> float:
        number = text[0] if len(text) == 1 else _number(text)
        base = (number >> 1) / 100 if number & 1 else number >> 1
        calm_days = facts.today - _before(facts.fields[day], facts.fields[scored])
        return faded(base, calm_days if calm_days > 0 else 0)

    return read


def _payments(window: int, day: int, newest: int, *, tail: bool) -> Reader:
    """Sums one window of the ring; `day` and `newest` are the groups of its days."""

    def read(facts: Facts, rest: bytes) -> int:
        size = ring.length(rest, 0)
        if size > len(rest) or (size != len(rest) and not tail):
            raise ProfileError(f"a damaged record: a ring of {size} bytes in {len(rest)}")
        skip = _before(facts.fields[day], facts.fields[newest]) - facts.today
        sums = ring.windows(rest[:size], skip, WINDOWS)
        facts["weekly_payments"], facts["monthly_payments"] = sums
        return sums[window]

    return read


def _before(day: bytes, ago: bytes) -> int:
    """Ordinal of a day told as so many days before another."""
    days = ago[0] if len(ago) == 1 else _number(ago)
    return _EPOCH + (day[0] | day[1] << 8) - (days >> 1 ^ -(days & 1))


def _no_payments(_facts: Facts, _rest: bytes) -> int:
    return 0


_YES_NO: Final = {name: _yes_no(bit, name) for bit, name in enumerate(record.FLAGS)}

_FIELDS: Final[tuple[tuple[int, int, str, bytes, Reader], ...]] = (
    (0, record.REGION, "region", _LEB, _read_region),
    (0, record.FRIENDS, "friends", _LEB, _read_number),
    (1, record.ASSETS, "assets_cny", _LEB, _read_money),
    (1, record.YEARLY, "yearly_spend_cny", _LEB, _read_money),
    (1, record.RISK, "risk_score", _LEB, _read_money),
    (1, record.REGISTERED, "registered_at", _DAY, _read_day),
    (1, record.AGE, "age", _LEB, _read_number),
    (1, record.WIFI, "wifi_risk", _LEB, _read_money),
    (1, record.BALANCE, "outstanding_balance_cny", _LEB, _read_money),
    (1, record.APPLIED, "applied_fenfu_at", _DAY, _read_day),
)
"""In the order they are written: byte and bit that say whether it is there, name, form, reader."""


BUILT_IN: Final = frozenset(
    {name for _, _, name, _, _ in _FIELDS} | set(_YES_NO) | {"weekly_payments", "monthly_payments"}
)
"""The attributes a record has fields for."""


@lru_cache(4096)
def _layout(head: bytes) -> Layout:
    """The layout of the records with these first two bytes."""
    if len(head) < 2 or head[0] & 3 != record.FORMAT:
        raise ProfileError(f"expected format {record.FORMAT}, got {head.hex() or 'nothing'}")
    first, second = head
    pattern = rb"(?s)..(.)" if first & record.ALL_KNOWN else rb"(?s)..(..)"
    readers: dict[str, tuple[int, Reader]] = {name: (1, read) for name, read in _YES_NO.items()}
    groups, day = 1, 2
    has_ring, tail = bool(first & record.RING), bool(first & record.TAIL)
    if first & record.HELD:
        pattern += _DAY
        groups = day
        for byte, bit, name, form, read in _FIELDS:
            if head[byte] & bit:
                groups += 1
                pattern += form
                readers[name] = groups, read
                if name == "risk_score":
                    pattern += _LEB
                    readers[name] = groups, _risk(day, groups + 1)
                    groups += 1
        if has_ring:
            pattern += _LEB
            groups += 1
        for window, name in enumerate(("weekly_payments", "monthly_payments")):
            read = _payments(window, day, groups, tail=tail) if has_ring else _no_payments
            readers[name] = groups + 1, read
    elif second or first & (record.RING | record.REGION | record.FRIENDS):
        raise ProfileError("a damaged record: facts without their day")
    pattern += rb"(.+)" if tail or has_ring else rb"()"
    return Layout(re.compile(pattern).fullmatch, readers, has_ring, tail)
