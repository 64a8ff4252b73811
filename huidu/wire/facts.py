"""A packed profile for one check: only the facts that its rules look at are made.

A rule reads two or three facts of twenty, and decoding all of them costs more than the check. One
regular expression per layout (the first two bytes of a record) finds where every field lies; for
each set of names one function is written that makes just those facts, without a call or an object
more than that takes. The format is told in `huidu.wire.record`, whose `read` says the same the long
way.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import lru_cache
from typing import Any, Final

import msgspec

from huidu import history
from huidu.engine.values import Memo
from huidu.errors import ProfileError
from huidu.model import Admission
from huidu.risk import kept_after
from huidu.wire import compact, compact_facts, record, ring

Admissions = Mapping[int, Admission]
Held = tuple[dict[str, Any], Admissions, frozenset[int]]
"""Attributes by name, admissions by rollout slot, numbers of the big lists that hold the user."""

Reader = Callable[[bytes, int], Held]
"""Reads a record of one layout, given today's proleptic ordinal."""

WINDOWS: Final = {"weekly_payments": 7, "monthly_payments": 30}
"""Attributes that sum the ring, and over how many days."""

MOST_LAYOUTS: Final = 4_096

_LEB: Final = rb"[\x80-\xff]*+[\x00-\x7f]"
_DAY: Final = rb".."
_EPOCH: Final = date(1970, 1, 1).toordinal()
_NO_ADMISSIONS: Final[dict[int, Admission]] = {}
_NO_LISTS: Final[frozenset[int]] = frozenset()
_read_custom: Final = msgspec.msgpack.Decoder(dict[int, Any]).decode

_FAULTS: Final = (ArithmeticError, LookupError, ValueError, struct.error, msgspec.MsgspecError)
"""What readers raise of damaged records, beside `ProfileError`."""

_NUMBER: Final = "{0}[0] if len({0}) == 1 else number({0})"
_MONEY: Final = "money({0})"
_SCORE: Final = "SCORE[{0}]"
_DATE: Final = "date(EPOCH + ({0}[0] | {0}[1] << 8))"
_REGION: Final = "REGION[{0}]"

_FIELDS: Final[tuple[tuple[int, int, str, bytes, str], ...]] = (
    (0, record.REGION, "region", _LEB, _REGION),
    (0, record.FRIENDS, "friends", _LEB, _NUMBER),
    (1, record.ASSETS, "assets_cny", _LEB, _MONEY),
    (1, record.YEARLY, "yearly_spend_cny", _LEB, _MONEY),
    (1, record.RISK, "risk_score", _LEB, _SCORE),
    (1, record.REGISTERED, "registered_at", _DAY, _DATE),
    (1, record.AGE, "age", _LEB, _NUMBER),
    (1, record.WIFI, "wifi_risk", _LEB, _SCORE),
    (1, record.BALANCE, "outstanding_balance_cny", _LEB, _MONEY),
    (1, record.APPLIED, "applied_fenfu_at", _DAY, _DATE),
)
"""In the order they are written: byte and bit that say whether it is there, name, form, source of
its value."""

BUILT_IN: Final = frozenset(
    {name for _, _, name, _, _ in _FIELDS} | set(record.FLAGS) | {*WINDOWS, history.NAME}
)
"""The attributes a record has fields for."""


class Reading:
    """Reads certain facts. Holds a function for each layout met so far.

    Args:
        names: the attributes to read; a record's others are left alone.
        custom_names: names of the registered custom attributes by slot.
    Attributes:
        by_first: what reads records by their first byte, which says the whole layout of format 2.
    """

    __slots__ = ("_by_head", "_custom", "_names", "by_first")

    def __init__(self, names: Iterable[str], custom_names: Mapping[int, str]) -> None:
        self._names = frozenset(names)
        custom = {(slot, name) for slot, name in custom_names.items() if name in self._names}
        self._custom = frozenset(custom)
        self._by_head: dict[bytes, Reader] = {}
        self.by_first: list[Reader] = [self._by_two] * 256

    def of(self, data: bytes, today: int) -> Held:
        """What a record says on `today`. The same as ``by_first[data[0]](data, today)``, which
        raises anything where this raises `ProfileError`.

        Args:
            today: proleptic ordinal of the day in the platform's zone.
        Raises:
            ProfileError: of another format, cut off, or damaged where one of the names is held.
        """
        try:
            return self.by_first[data[0]](data, today)
        except _FAULTS as error:
            raise ProfileError(f"a damaged record of {len(data)} bytes: {error!r}") from error

    def _by_two(self, data: bytes, today: int) -> Held:
        """Read by the first two bytes, as format 1 needs it; make the reader if it is new."""
        head = data[:2]
        reader = self._by_head.get(head)
        if reader is None:
            first = head[0]
            if first & 3 == compact.FORMAT:
                kind = bytes((first & compact_facts.KINDS,))  # other bits say nothing of the layout
                reader = _reader(kind, self._names & BUILT_IN, self._custom)
                self.by_first[first] = reader
            else:
                if len(self._by_head) >= MOST_LAYOUTS:
                    self._by_head.clear()
                reader = _reader(head, self._names & BUILT_IN, self._custom)
                self._by_head[head] = reader
        return reader(data, today)


# What a field's bytes say


def _number(text: bytes) -> int:
    value = text[-1]
    for byte in text[-2::-1]:  # none for most numbers
        value = value << 7 | byte & 0x7F
    return value


def _money(text: bytes) -> int | float:
    number = text[0] if len(text) == 1 else _number(text)
    return (number >> 1) / 100 if number & 1 else number >> 1


def _region(text: bytes) -> str:
    return record.region_code(_number(text))


def _before(text: bytes) -> int:
    """Ordinal of a day told as so many days (the rest of `text`) before another (two bytes)."""
    days = _number(text[2:])
    return _EPOCH + (text[0] | text[1] << 8) - (days >> 1 ^ -(days & 1))


def _payments(rest: bytes, skip: int, windows: tuple[int, ...], *, tail: bool) -> list[int]:
    """Sums windows of the ring that `rest` begins with."""
    size = ring.length(rest, 0)
    if size > len(rest) or (size != len(rest) and not tail):
        raise ProfileError(f"a damaged record: a ring of {size} bytes in {len(rest)}")
    return ring.windows(rest[:size], skip, windows)


def _paid(rest: bytes, ahead: int) -> history.Paid:
    """The ring that `rest` begins with, still packed."""
    return history.Paid(rest[: ring.length(rest, 0)], ahead)


def _tail(
    data: bytes, at: int, facts: dict[str, Any], custom_names: Mapping[int, str]
) -> tuple[Admissions, frozenset[int]]:
    """Admissions and lists from `at` on; what custom facts follow is put into `facts`."""
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
    if at < len(data):
        for slot, value in _read_custom(data[at:]).items():
            if slot in custom_names:
                facts[custom_names[slot]] = value
    return admissions, lists


def _damaged(data: bytes) -> ProfileError:
    return ProfileError(f"a damaged record of {len(data)} bytes")


_TOOLS: Final[dict[str, Any]] = {
    "__builtins__": {},
    "len": len,
    "float": float,
    "number": _number,
    "money": _money,
    "SCORE": Memo(_money),
    "REGION": Memo(_region),
    "BEFORE": Memo(_before),
    "KEPT": Memo(kept_after),
    "date": date.fromordinal,
    "payments": _payments,
    "paid": _paid,
    "NO_PAYMENTS": history.Paid(),
    "ring_length": ring.length,
    "tail": _tail,
    "damaged": _damaged,
    "EPOCH": _EPOCH,
    "NO_ADMISSIONS": _NO_ADMISSIONS,
    "NO_LISTS": _NO_LISTS,
}


class _Layout:
    """Where the fields of one kind of record lie.

    Attributes:
        pieces: regular expressions of the fields, one after the other; the last is that of the ring
            and the tail.
        places: the piece of each field by name, of those that are held.
        day, scored, newest, rest: the pieces of the day of the facts, the days of the score and of
            the ring, and of what follows the fields.
    """

    def __init__(self, head: bytes) -> None:
        """Raises `ProfileError` when no record begins so."""
        if len(head) < 2 or head[0] & 3 != record.FORMAT:
            raise ProfileError(f"expected format {record.FORMAT}, got {head.hex() or 'nothing'}")
        first, second = head
        self.held = bool(first & record.HELD)
        self.ring, self.tail = bool(first & record.RING), bool(first & record.TAIL)
        self.all_known = bool(first & record.ALL_KNOWN)
        self.places: dict[str, int] = {}
        self.pieces = [rb"." if self.all_known else rb".."]
        self.day = self._add(_DAY) if self.held else 0
        if self.held:
            for byte, bit, name, form, _ in _FIELDS:
                if head[byte] & bit:
                    self.places[name] = self._add(form)
                    if name == "risk_score":
                        self.scored = self._add(_LEB)
            if self.ring:
                self.newest = self._add(_LEB)
        elif second or first & (record.RING | record.REGION | record.FRIENDS):
            raise ProfileError("a damaged record: facts without their day")
        self.rest = self._add(rb".+" if self.tail or self.ring else rb"")

    def _add(self, piece: bytes) -> int:
        self.pieces.append(piece)
        return len(self.pieces) - 1

    def find(self, wanted: Iterable[int]) -> Callable[[bytes], re.Match[bytes] | None]:
        """Matches whole records; its groups are the wanted pieces."""
        pieces = self.pieces.copy()
        for number in wanted:
            pieces[number] = b"(%b)" % pieces[number]
        return re.compile(rb"(?s).." + b"".join(pieces)).fullmatch


_layout: Final = lru_cache(MOST_LAYOUTS)(_Layout)


@lru_cache(MOST_LAYOUTS)
def _reader(head: bytes, names: frozenset[str], custom: frozenset[tuple[int, str]]) -> Reader:
    """The function that reads the facts of these names from records that begin so.

    Like a flag's check it is put together from fixed pieces, and runs without builtins.
    """
    if head[:1] and head[0] & 3 == compact.FORMAT:
        tools, source = compact_facts.source(head[0], names, WINDOWS)
    else:
        find, source = _source(_layout(head), names)
        tools = {"find": find}
    namespace = _TOOLS | tools | {"CUSTOM": dict(custom)}
    exec(compile(source, "<huidu record>", "exec", dont_inherit=True), namespace)  # noqa: S102
    reader: Reader = namespace["read"]
    return reader


def _source(
    layout: _Layout, names: frozenset[str]
) -> tuple[Callable[[bytes], re.Match[bytes] | None], str]:
    groups: set[int] = set()
    before: list[str] = []
    items: list[str] = []
    after: list[str] = []

    def group(number: int) -> str:
        groups.add(number)
        return f"g{number}"

    def days_since(number: int) -> str:
        return f"today - BEFORE[{group(layout.day)} + {group(number)}]"

    for _, _, name, _, value in _FIELDS:
        if name not in names or name not in layout.places:
            continue
        text = group(layout.places[name])
        if name == "risk_score":
            value += f" * KEPT[{days_since(layout.scored)}]"
        items.append(f"{name!r}: {value.format(text)}")
    for bit, name in enumerate(record.FLAGS):
        if name in names:
            text, mask = group(0), 1 << bit
            if layout.all_known:
                items.append(f"{name!r}: {text}[0] & {mask} != 0")
            else:
                after.append(f"if {text}[1] & {mask}: facts[{name!r}] = {text}[0] & {mask} != 0")
    summed = [name for name in WINDOWS if name in names]
    if layout.held and summed:
        if layout.ring:
            sums = ", ".join(f"{name}" for name in summed)
            windows = tuple(WINDOWS[name] for name in summed)
            skip = f"-({days_since(layout.newest)})"
            call = f"payments({group(layout.rest)}, {skip}, {windows}, tail={layout.tail})"
            before.append(f"[{sums}] = {call}")
        items += [f"{name!r}: {name if layout.ring else 0}" for name in summed]
    if layout.held and history.NAME in names:
        value = "NO_PAYMENTS"
        if layout.ring:
            value = f"paid({group(layout.rest)}, -({days_since(layout.newest)}))"
        items.append(f"{history.NAME!r}: {value}")
    after_facts = "NO_ADMISSIONS, NO_LISTS"
    if layout.tail:
        rest = group(layout.rest)
        at = f"ring_length({rest}, 0)" if layout.ring else "0"
        after.append(f"admissions, lists = tail({rest}, {at}, facts, CUSTOM)")
        after_facts = "admissions, lists"
    lines = ["match = find(data)", "if match is None: raise damaged(data)"]
    if groups:
        wanted = sorted(groups)
        lines.append(f"[{', '.join(f'g{number}' for number in wanted)}] = match.groups()")
    facts = f"{{{', '.join(items)}}}"
    if after:
        lines += [*before, f"facts = {facts}", *after, f"return facts, {after_facts}"]
    else:
        lines += [*before, f"return {facts}, {after_facts}"]
    return layout.find(groups), "\n    ".join(["def read(data, today):", *lines])
