"""The moment of a check: its day, its text, and an id that sorts by it. All of it cheap."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterator
from typing import Final
from zoneinfo import ZoneInfo

_ALPHABET: Final = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
DECISION_CHARACTERS: Final = 22
_PAIRS: Final = [bytes((a, b)) for a in _ALPHABET for b in _ALPHABET]


def base32(number: int, characters: int) -> bytes:
    """The lowest bits of a number in Crockford's base 32, whose text sorts as the number does."""
    return bytes(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(characters)))


class Days:
    """Today's date in one zone; the calendar is asked once a day.

    Args:
        zone: IANA name, such as ``Asia/Shanghai``.
    """

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)
        self._today = datetime.date.min
        self._until = 0.0
        self._since = 0.0

    def today(self, now: float) -> datetime.date:
        """The day of `now`, in Unix seconds."""
        if not self._since <= now < self._until:
            moment = datetime.datetime.fromtimestamp(now, self._zone)
            self._today = moment.date()
            midnight = datetime.datetime.combine(self._today, datetime.time(), self._zone)
            tomorrow = datetime.datetime.combine(
                self._today + datetime.timedelta(days=1), datetime.time(), self._zone
            )
            self._since, self._until = midnight.timestamp(), tomorrow.timestamp()
        return self._today


class Decisions:
    """Ids of decisions: 10 characters of time (ms), 8 of this process, 2 of a block, 2 within it.

    They sort by time (and within a process by order), and two never meet: a block begins with each
    millisecond and after 1,024 ids, their number cannot turn over within a millisecond, and
    processes differ by 40 random bits.
    """

    def __init__(self) -> None:
        self._process = base32(int.from_bytes(os.urandom(5), "big"), 8)
        self._blocks = 0
        self._ms = -1
        self._head = b""
        self._pairs: Iterator[bytes] = iter(())

    def next(self, ms: int) -> bytes:
        """An id for a check answered at `ms`, in Unix milliseconds."""
        head, pairs = self.block(ms)
        pair = next(pairs, None)
        if pair is None:
            head, pairs = self.next_block(ms)
            pair = next(pairs)
        return head + pair

    def block(self, ms: int) -> tuple[bytes, Iterator[bytes]]:
        """Ids for checks answered at `ms`, perhaps only a few or none: their beginning, and their
        last two characters; whoever takes some has taken them for all.

        `next_block` gives more. So an id costs no call in Python.
        """
        return (self._head, self._pairs) if ms == self._ms else self.next_block(ms)

    def next_block(self, ms: int) -> tuple[bytes, Iterator[bytes]]:
        """The next 1,024 ids; see `block`."""
        self._ms = ms
        self._blocks += 1
        self._head = base32(ms, 10) + self._process + _PAIRS[self._blocks & 1023]
        self._pairs = iter(_PAIRS)
        return self._head, self._pairs


class Moment:
    """What checks answered in one turn of the loop have in common: the time and the day.

    Attributes:
        ms: Unix time in milliseconds.
        day: proleptic ordinal of the day in the zone.
    """

    def __init__(self, zone: str) -> None:
        self._days = Days(zone)
        self.refresh()

    def refresh(self) -> None:
        now = time.time()
        self.ms = int(now * 1000)
        self.day = self._days.today(now).toordinal()


class Stamps:
    """A moment as ISO 8601 text in UTC with milliseconds; the second's text is made once."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def at(self, ms: int) -> bytes:
        second, rest = divmod(ms, 1000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%b.%03dZ" % (self._text, rest)
