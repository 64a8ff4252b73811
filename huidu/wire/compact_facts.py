"""What `huidu.wire.facts` needs for records of format 2: where fields lie, and who reads them.

All facts but money and friends lie in one number of 88 bits. It is taken apart at whole bytes into
the six words of `_WORDS`, of which a reader unpacks those it needs: numbers of at most 32 bits are
shifted and masked in half the time of longer ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import cache
from struct import Struct
from typing import Any, Final

from huidu import history
from huidu.engine.values import Memo
from huidu.risk import kept_after
from huidu.wire import compact, record

KINDS: Final = 3 | compact.TAIL | compact.BALANCE
"""Bits of the first byte that say where the fields lie."""

_LEB: Final = rb"[\x80-\xff]*+[\x00-\x7f]"

Find = Callable[[bytes], re.Match[bytes] | None]

_WORDS: Final = {"first": "B", "yes": "B", "low": "H", "mid": "B", "place": "H", "high": "I"}
"""How the number's bytes are unpacked, by the names the source has for them: the lowest 8 bits,
the next 8, 16, 8, 16, and the highest 32."""

_DAY: Final = "UPDATED[first] + (low & 4095)"
_NEWEST: Final = f"(place >> 15 | high << 1 & {compact.NO_RING})"

VALUES: Final = {
    "region": ("place", "REGIONS[place]"),
    "registered_at": ("low mid place", "date(FIRST + (low >> 12 | mid << 4 | (place & 3) << 12))"),
    "age": ("high", "(high >> 12) % 101"),
    "risk_score": (
        "first low high",
        f"high // {101 << 12} % 101"
        f" * (KEPT_AT.get(days := today - ({_DAY}) + (high >> 5 & 127)) or KEPT_AT[days])",
    ),
    "wifi_risk": ("high", f"high // {101 * 101 << 12}"),
    **{name: ("yes", f"yes & {1 << bit} != 0") for bit, name in enumerate(record.FLAGS)},
}
"""What a fact's value is made of, which is words of the number alone, and how."""

_BEHIND: Final = {
    "assets_cny": ("assets", "money(assets)"),
    "yearly_spend_cny": ("spent", "money(spent)"),
    "friends": ("first friends", "number(friends) << 2 | first >> 4 & 3"),
}
"""The same for facts that lie behind the number, or there too."""


@cache
def tools() -> dict[str, Any]:
    """What the source names, beyond what `huidu.wire.facts` has for all formats."""
    codes = [f"{number:04d}00" for number in range(1 << 13)]
    return {
        "FIRST": compact.FIRST,
        "UPDATED": [compact.FIRST + (first << 6 & 0x3000) for first in range(1 << 8)],
        # All words there can be, so that one look-up in a list tells the code.
        "REGIONS": [codes[place >> 2 & 0x1FFF] for place in range(1 << 16)],
        "KEPT_AT": Memo(lambda days: kept_after(days - 32)),
    }


def source(
    first: int, names: frozenset[str], windows: Mapping[str, int]
) -> tuple[dict[str, Any], str]:
    """The function that reads the facts of these names, in the words of `huidu.wire.facts`, and
    what else it names."""
    tail = bool(first & compact.TAIL)
    used: set[str] = set()
    before: list[str] = []
    values: dict[str, str] = {}
    for name, (fields, value) in (VALUES | _BEHIND).items():
        if name in names:
            used.update(fields.split())
            values[name] = value
    if "outstanding_balance_cny" in names:
        used.add("owed")
        values["outstanding_balance_cny"] = "money(owed)" if first & compact.BALANCE else "0"
    skip = f"{_DAY} + {_NEWEST} - 2 - today"
    has_ring = f"{_NEWEST} != {compact.NO_RING}"
    ring_words = ("first", "low", "place", "high", "rest")
    if summed := [name for name in windows if name in names]:
        used.update(ring_words)
        days = tuple(windows[name] for name in summed)
        none = ", ".join("0" for _ in summed)
        before.append(
            f"[{', '.join(summed)}] = payments(rest, {skip}, {days}, tail={tail})"
            f" if {has_ring} else ({none},)"
        )
        values |= {name: name for name in summed}
    if history.NAME in names:
        used.update(ring_words)
        values[history.NAME] = f"paid(rest, {skip}) if {has_ring} else NO_PAYMENTS"
    facts = f"{{{', '.join(f'{name!r}: {value}' for name, value in values.items())}}}"
    after = [f"return {facts}, NO_ADMISSIONS, NO_LISTS"]
    if tail:
        used.update(ring_words)
        after = [
            f"facts = {facts}",
            f"end = ring_length(rest, 0) if {has_ring} else 0",
            "admissions, lists = tail(rest, end, facts, CUSTOM)",
            "return facts, admissions, lists",
        ]
    pieces = _pieces(first)
    lines = []
    if found := [name for name in pieces if name in used]:
        lines = ["match = find(data)", "if match is None: raise damaged(data)"]
        lines.append(f"[{', '.join(found)}] = match.groups()")
    words, unpack = unpacking(used)
    lines.append(words)
    read = "\n    ".join(["def read(data, today):", *lines, *before, *after])
    return {"find": _find(pieces, used), "unpack": unpack, **tools()}, read


def _pieces(first: int) -> dict[str, bytes]:
    """Regular expressions of the fields, by the names the source has for them."""
    return {
        "assets": _LEB,
        "spent": _LEB,
        "friends": _LEB,
        "owed": _LEB if first & compact.BALANCE else rb"",
        "rest": rb".+" if first & compact.TAIL else rb".*",
    }


def _find(pieces: Mapping[str, bytes], wanted: Collection[str]) -> Find:
    """Matches whole records; its groups are the wanted fields, in their order."""
    kept = [b"(%b)" % piece if name in wanted else piece for name, piece in pieces.items()]
    return re.compile(b"(?s).{%d}" % compact.SIZE + b"".join(kept)).fullmatch


def unpacking(wanted: Collection[str]) -> tuple[str, Callable[[bytes], tuple[int, ...]]]:
    """A line that unpacks the wanted words, and `unpack` in it, which raises `struct.error` of a
    record that is too short."""
    names = [name for name in _WORDS if name in wanted]
    pieces = [code if name in wanted else f"{_BYTES[code]}x" for name, code in _WORDS.items()]
    return f"[{', '.join(names)}] = unpack(data)", Struct("<" + "".join(pieces)).unpack_from


_BYTES: Final = {"B": 1, "H": 2, "I": 4}
