"""A flag's check that takes its facts straight from a packed record.

A check takes facts by name, and `huidu.wire.facts` makes them from a record: a dictionary, which
costs as much to make and to ask as the facts themselves. Where all that a flag looks at lies in the
number of a record of format 2 (`huidu.wire.compact_facts`), the words of that number are unpacked
at the head of the flag's own function instead. The rest of the source is that of the flag's check.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Final

from huidu.engine import Compiled
from huidu.engine.writer import LOAD, Writer
from huidu.model import Answer, Attribute, AttributeSource
from huidu.wire import compact, compact_facts
from huidu.wire.facts import BUILT_IN

PackedCheck = Callable[[str, bytes, int], Answer]
"""The check of a user, given the record and today's proleptic ordinal. The caller says nothing."""

_HEADS: Final = [first & (3 | compact.TAIL) == compact.FORMAT for first in range(1 << 8)]
"""By a record's first byte, whether what is known is all in its number: format 2 without a tail,
so without admissions, lists or custom facts."""


def check_of(compiled: Compiled, flag: str, names: frozenset[str]) -> list[PackedCheck | None]:
    """What checks a flag by a record's first byte; None where `huidu.wire.facts` must read it.

    Args:
        flag: one that is published.
        names: the facts that the flag's check may look at and that records may hold.
    """
    writer = _PackedWriter(compiled.readable, names)
    if not (compiled.write(flag, writer) and writer.fits):
        return [None] * len(_HEADS)
    made = writer.packed()
    return [made if fits else None for fits in _HEADS]


class _PackedWriter(Writer):
    """Attributes:
    fits: all that the flag looks at lies in the number.
    """

    def __init__(self, readable: frozenset[AttributeSource], names: frozenset[str]) -> None:
        super().__init__(readable, holds=False)
        self.fits = True
        self._held = names
        self._words: set[str] = set()

    def load(self, name: str, attribute: Attribute, unknown: str) -> None:
        held = attribute.name in self._held and attribute.name in BUILT_IN
        if held and attribute.name in compact_facts.VALUES:
            words, value = compact_facts.VALUES[attribute.name]
            self._words.update(words.split())
            self.line(f"{name} = {value}")
            if attribute.type in LOAD:
                self.line(LOAD[attribute.type].format(v=name))
        else:
            self.fits = self.fits and not held
            self.line(f"{name} = {unknown}")

    def days(self, attribute: Attribute) -> str:
        self.fits = False
        return super().days(attribute)

    def packed(self) -> PackedCheck:
        words, unpack = compact_facts.unpacking(self._words)
        self.lines[:1] = [
            "def check(key, data, today):",
            f"    {words}",
        ]
        self.named |= compact_facts.tools() | {"date": datetime.date.fromordinal, "unpack": unpack}
        return self.function()  # type: ignore[return-value]
