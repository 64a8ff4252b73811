"""Which steps refuse a user, as bits of whole numbers: one pass over the users, then arithmetic.

DuckDB works through `CASE WHEN way THEN 0 WHEN way THEN 0 ELSE bit END` by leaving out users as
soon as a way has let them pass. A column of truths for each step, joined by AND and OR, takes
every user through every part, and twice as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from cohorts.population.sql import TRUE

_BITS: Final = 30
"""In one column, so that sums stay numbers of 32 bits."""


class Marks:
    """Tests of users, each with a bit of its own. A test lets pass whom one of its ways lets."""

    def __init__(self) -> None:
        self._tests: list[tuple[str, ...]] = []

    def add(self, ways: tuple[str, ...]) -> int:
        """A further test, and its number."""
        self._tests.append(ways)
        return len(self._tests) - 1

    def like(self, ways: tuple[str, ...]) -> int:
        """The number of a test with the same ways, which is added if there is none."""
        return self._tests.index(ways) if ways in self._tests else self.add(ways)

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return [f"m{place}" for place in range(max(1, -(-len(self._tests) // _BITS)))]

    def columns(self) -> str:
        """The columns' expressions, for the select that reads the users."""
        told = []
        for place, name in enumerate(self.names):
            tests = self._tests[place * _BITS : (place + 1) * _BITS]
            bits = [_bit(ways, 1 << number) for number, ways in enumerate(tests)]
            told.append(f"{' + '.join(bits) or '0'} AS {name}")
        return ", ".join(told)

    def refuses(self, test: int) -> str:
        return f"({self._among([test])[0]} <> 0)"

    def none(self, tests: Iterable[int]) -> str:
        """No test refuses."""
        return f"({' AND '.join(f'{each} = 0' for each in self._among(tests)) or TRUE})"

    def one(self, tests: Iterable[int]) -> str:
        """Exactly one test refuses."""
        counts = [f"bit_count({each})" for each in self._among(tests)]
        return f"({' + '.join(counts) or '0'} = 1)"

    def first(self, tests: Sequence[int]) -> str:
        """The place, in this order, of the first that refuses; NULL where none does."""
        ways = [f"WHEN {self.refuses(each)} THEN {place}" for place, each in enumerate(tests)]
        return f"CASE {' '.join(ways)} END" if ways else "NULL"

    def _among(self, tests: Iterable[int]) -> list[str]:
        """By column, the bits of these tests that are set."""
        masks: dict[int, int] = {}
        for each in tests:
            place, bit = divmod(each, _BITS)
            masks[place] = masks.get(place, 0) | 1 << bit
        return [f"(m{place} & {mask})" for place, mask in masks.items()]


def _bit(ways: tuple[str, ...], bit: int) -> str:
    told = " ".join(f"WHEN {way} THEN 0" for way in ways)
    return f"CASE {told} ELSE {bit} END" if told else str(bit)
