"""What `huidu.wire.facts` needs for records of format 2: where fields lie, and who reads them.

All facts but money and friends lie in one number, so a fact costs a shift and a mask.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final

from huidu import history
from huidu.wire import compact, record

KINDS: Final = 3 | compact.TAIL | compact.BALANCE
"""Bits of the first byte that say where the fields lie."""

_LEB: Final = rb"[\x80-\xff]*+[\x00-\x7f]"

Find = Callable[[bytes], re.Match[bytes] | None]

_VALUES: Final = {
    "region": ("n", "REGION_OF[n >> 42 & 8191]"),
    "registered_at": ("n", "date(FIRST + (n >> 28 & 16383))"),
    "age": ("n", "(n >> 68) % 101"),
    "wifi_risk": ("n", "(n >> 68) // 10201"),
    "assets_cny": ("assets", "money(assets)"),
    "yearly_spend_cny": ("spent", "money(spent)"),
    "friends": ("n friends", "number(friends) << 2 | n >> 4 & 3"),
}
"""What a fact's value is made of, and how."""

_UPDATED: Final = "FIRST + (n << 6 & 12288 | n >> 16 & 4095)"
_HAS_RING: Final = f"n >> 55 & {compact.NO_RING} != {compact.NO_RING}"


def region_of(number: int) -> str:
    return f"{number:04d}00"


def source(first: int, names: frozenset[str], windows: Mapping[str, int]) -> tuple[Find, str]:
    """What finds the fields, and the function that reads the facts of these names, in the words of
    `huidu.wire.facts`."""
    tail = bool(first & compact.TAIL)
    used: set[str] = set()
    before: list[str] = []
    values: dict[str, str] = {}
    for name, (fields, value) in _VALUES.items():
        if name in names:
            used.update(fields.split())
            values[name] = value
    for bit, name in enumerate(record.FLAGS):
        if name in names:
            values[name] = f"data[1] & {1 << bit} != 0"
    if "outstanding_balance_cny" in names:
        used.add("owed")
        values["outstanding_balance_cny"] = "money(owed)" if first & compact.BALANCE else "0"
    if "risk_score" in names:
        used.add("n")
        calm = f"today - ({_UPDATED}) + (n >> 61 & 127) - 32"
        values["risk_score"] = f"(n >> 68) // 101 % 101 * KEPT[{calm}]"
    skip = f"({_UPDATED}) + (n >> 55 & {compact.NO_RING}) - 2 - today"
    if summed := [name for name in windows if name in names]:
        used.update(("n", "rest"))
        days = tuple(windows[name] for name in summed)
        none = ", ".join("0" for _ in summed)
        before.append(
            f"[{', '.join(summed)}] = payments(rest, {skip}, {days}, tail={tail})"
            f" if {_HAS_RING} else ({none},)"
        )
        values |= {name: name for name in summed}
    if history.NAME in names:
        used.update(("n", "rest"))
        values[history.NAME] = f"paid(rest, {skip}) if {_HAS_RING} else NO_PAYMENTS"
    facts = f"{{{', '.join(f'{name!r}: {value}' for name, value in values.items())}}}"
    after = [f"return {facts}, NO_ADMISSIONS, NO_LISTS"]
    if tail:
        used.update(("n", "rest"))
        after = [
            f"facts = {facts}",
            f"end = ring_length(rest, 0) if {_HAS_RING} else 0",
            "admissions, lists = tail(rest, end, facts, CUSTOM)",
            "return facts, admissions, lists",
        ]
    if used <= {"n"}:
        # The number is all that is looked at: what lies behind it need not be found.
        lines = [f"if len(data) < {compact.SIZE}: raise damaged(data)"]
        lines += [f"n = number_of(data[:{compact.SIZE}], 'little')"] if used else []
    else:
        found = [name for name in _pieces(first) if name in used]
        lines = ["match = find(data)", "if match is None: raise damaged(data)"]
        lines.append(f"[{', '.join(found)}] = match.groups()")
        if "n" in used:
            lines.append("n = number_of(n, 'little')")
    read = "\n    ".join(["def read(data, today):", *lines, *before, *after])
    return _find(_pieces(first), used), read


def _pieces(first: int) -> dict[str, bytes]:
    """Regular expressions of the fields, by the names the source has for them."""
    return {
        "n": rb".{%d}" % compact.SIZE,
        "assets": _LEB,
        "spent": _LEB,
        "friends": _LEB,
        "owed": _LEB if first & compact.BALANCE else rb"",
        "rest": rb".+" if first & compact.TAIL else rb".*",
    }


def _find(pieces: Mapping[str, bytes], wanted: Collection[str]) -> Find:
    """Matches whole records; its groups are the wanted fields, in their order."""
    kept = [b"(%b)" % piece if name in wanted else piece for name, piece in pieces.items()]
    return re.compile(b"(?s)" + b"".join(kept)).fullmatch
