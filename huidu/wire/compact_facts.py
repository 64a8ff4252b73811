"""What `huidu.wire.facts` needs for records of format 2: where fields lie, and who reads them.

All facts but money and friends lie in one number, so a fact costs a shift and a mask.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from huidu import history
from huidu.wire import compact, record

KINDS: Final = 3 | compact.TAIL | compact.BALANCE
"""Bits of the first byte that say where the fields lie."""

_LEB: Final = rb"([\x80-\xff]*+[\x00-\x7f])"

_VALUES: Final = {
    "region": "region_of(n >> 42 & 8191)",
    "registered_at": "date(FIRST + (n >> 28 & 16383))",
    "age": "(n >> 68) % 101",
    "wifi_risk": "(n >> 68) // 10201",
    "assets_cny": "money(assets)",
    "yearly_spend_cny": "money(spent)",
    "friends": "number(friends) << 2 | n >> 4 & 3",
}
_UPDATED: Final = "FIRST + (n << 6 & 12288 | n >> 16 & 4095)"
_HAS_RING: Final = f"n >> 55 & {compact.NO_RING} != {compact.NO_RING}"


@lru_cache(4096)
def region_of(number: int) -> str:
    return f"{number:04d}00"


@lru_cache(4)
def find_of(first: int) -> Callable[[bytes], re.Match[bytes] | None]:
    """Finds the number, assets, spend, friends, balance and what follows."""
    balance = _LEB if first & compact.BALANCE else rb"()"
    rest = rb"(.+)" if first & compact.TAIL else rb"(.*)"
    size = b"%d" % compact.SIZE
    return re.compile(rb"(?s)(.{" + size + rb"})" + _LEB * 3 + balance + rest).fullmatch


def source(first: int, names: frozenset[str], windows: Mapping[str, int]) -> str:
    """The function that reads the facts of these names, in the words of `huidu.wire.facts`."""
    tail = bool(first & compact.TAIL)
    before: list[str] = []
    values = {name: value for name, value in _VALUES.items() if name in names}
    for bit, name in enumerate(record.FLAGS):
        if name in names:
            values[name] = f"data[1] & {1 << bit} != 0"
    if "outstanding_balance_cny" in names:
        values["outstanding_balance_cny"] = "money(owed)" if first & compact.BALANCE else "0"
    if "risk_score" in names:
        before += [
            "risk = (n >> 68) // 101 % 101",
            f"calm = today - ({_UPDATED}) + (n >> 61 & 127) - 32",
        ]
        values["risk_score"] = "faded(risk, calm) if calm > 0 else float(risk)"
    skip = f"({_UPDATED}) + (n >> 55 & {compact.NO_RING}) - 2 - today"
    if summed := [name for name in windows if name in names]:
        days = tuple(windows[name] for name in summed)
        none = ", ".join("0" for _ in summed)
        before.append(
            f"[{', '.join(summed)}] = payments(rest, {skip}, {days}, tail={tail})"
            f" if {_HAS_RING} else ({none},)"
        )
        values |= {name: name for name in summed}
    if history.NAME in names:
        values[history.NAME] = f"paid(rest, {skip}) if {_HAS_RING} else NO_PAYMENTS"
    facts = f"{{{', '.join(f'{name!r}: {value}' for name, value in values.items())}}}"
    lines = [
        "match = find(data)",
        "if match is None: raise damaged(data)",
        "number_bytes, assets, spent, friends, owed, rest = match.groups()",
        "n = number_of(number_bytes, 'little')",
        *before,
    ]
    if tail:
        lines += [
            f"facts = {facts}",
            f"end = ring_length(rest, 0) if {_HAS_RING} else 0",
            "admissions, lists = tail(rest, end, facts, CUSTOM)",
            "return facts, admissions, lists",
        ]
    else:
        lines.append(f"return {facts}, NO_ADMISSIONS, NO_LISTS")
    return "\n    ".join(["def read(data, today):", *lines])
