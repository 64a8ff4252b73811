"""Format 2 of a packed profile: eleven bytes for what is known about nearly everybody.

`huidu.wire.record` gives each field whole bytes and a bit that says whether it is there. Where all
the usual facts are known and small, one number of 88 bits holds them, lowest first:

    2 format (2)                              1 a tail follows
    1 an outstanding balance follows          2 the lowest of the number of friends
    2 the highest of the day of the facts     8 which yes/no facts are true
    12 the others: days since `FIRST`         14 registered: days since `FIRST`
    13 region: its code without the last 00
    6 days from the facts to the ring's newest, plus 2; 63: no ring
    7 days from the risk score to the facts, plus 32
    20 age + 101 * (risk score + 101 * network risk)

Then, as in format 1: assets, yearly spend, friends (without their two lowest bits), the balance,
the ring and the tail. What does not fit is written in format 1.
"""

from __future__ import annotations

import datetime
from typing import Any, Final

import msgspec

from huidu.errors import ProfileError
from huidu.wire import record, ring
from huidu.wire.record import FLAGS, Profile, leb, money_leb, read_number

FORMAT: Final = 2
SIZE: Final = 11
FIRST: Final = datetime.date(2010, 1, 1).toordinal()
TAIL: Final = 4
BALANCE: Final = 8
NO_RING: Final = 63
_DAYS: Final = 1 << 14
_from_ordinal = datetime.date.fromordinal


def encode(profile: Profile) -> bytes | None:
    """The record in format 2, or None where it does not fit.

    Raises:
        ProfileError: a value that no record can hold.
    """
    yes_no = [getattr(profile, name) for name in FLAGS]
    region = profile.region
    if (
        None in yes_no
        or profile.applied_fenfu_at is not None
        or profile.updated is None
        or profile.registered_at is None
        or profile.risk_scored_on is None
        or region is None
        or profile.assets_cny is None
        or profile.yearly_spend_cny is None
        or profile.friends is None
        or profile.outstanding_balance_cny is None
    ):
        return None
    updated = profile.updated.toordinal()
    day, registered = updated - FIRST, profile.registered_at.toordinal() - FIRST
    ago = updated - profile.risk_scored_on.toordinal() + 32
    newest = NO_RING
    if profile.counts:
        if profile.last_day is None:
            return None
        newest = profile.last_day.toordinal() - updated + 2
        if not 0 <= newest < NO_RING:
            return None
    small = [profile.age, profile.risk_score, profile.wifi_risk]
    if not (
        all(type(each) in (int, float) and each in _SMALL for each in small)
        and 0 <= day < _DAYS
        and 0 <= registered < _DAYS
        and 0 <= ago < 128
        and len(region) == 6
        and region.isascii()
        and region.isdigit()
        and region.endswith("00")
        and int(region) < 8192_00
    ):
        return None
    age, risk, wifi = (int(each or 0) for each in small)
    tail = record.tail_of(profile)
    number = FORMAT | TAIL * bool(tail) | BALANCE * bool(profile.outstanding_balance_cny)
    number |= (
        (profile.friends & 3) << 4 | (day >> 12) << 6 | sum(map(_shifted, yes_no, range(8, 16)))
    )
    number |= (day & 0xFFF) << 16 | registered << 28 | int(region) // 100 << 42
    number |= newest << 55 | ago << 61 | (age + 101 * (risk + 101 * wifi)) << 68
    body = number.to_bytes(SIZE, "little")
    body += money_leb(profile.assets_cny, "assets_cny")
    body += money_leb(profile.yearly_spend_cny, "yearly_spend_cny")
    body += leb(profile.friends >> 2, "friends")
    if profile.outstanding_balance_cny:
        body += money_leb(profile.outstanding_balance_cny, "outstanding_balance_cny")
    return body + profile.counts + tail


def read(data: bytes) -> dict[str, Any]:
    """What is known, by the names of `Profile`.

    Raises:
        ProfileError: cut off, or with bytes too many.
    """
    try:
        return _read(data)
    except ProfileError:
        raise
    except (IndexError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise ProfileError(f"a damaged record of {len(data)} bytes: {error}") from error


def _read(data: bytes) -> dict[str, Any]:
    if len(data) < SIZE or data[0] & 3 != FORMAT:
        raise ProfileError(f"a damaged record of {len(data)} bytes")
    number = int.from_bytes(data[:SIZE], "little")
    updated = day_of(number)
    wifi, small = divmod(number >> 68, 101 * 101)
    risk, age = divmod(small, 101)
    facts: dict[str, Any] = {
        "updated": _from_ordinal(updated),
        **{name: bool(data[1] >> bit & 1) for bit, name in enumerate(FLAGS)},
        "registered_at": _from_ordinal(FIRST + (number >> 28 & 0x3FFF)),
        "region": f"{number >> 42 & 0x1FFF:04d}00",
        "age": age,
        "risk_score": risk,
        "risk_scored_on": _from_ordinal(updated - (number >> 61 & 0x7F) + 32),
        "wifi_risk": wifi,
    }
    at = SIZE
    for name in ("assets_cny", "yearly_spend_cny"):
        money, at = read_number(data, at)
        facts[name] = (money >> 1) / 100 if money & 1 else money >> 1
    friends, at = read_number(data, at)
    facts["friends"] = friends << 2 | number >> 4 & 3
    facts["outstanding_balance_cny"] = 0
    if number & BALANCE:
        money, at = read_number(data, at)
        facts["outstanding_balance_cny"] = (money >> 1) / 100 if money & 1 else money >> 1
    newest = number >> 55 & NO_RING
    if newest != NO_RING:
        facts["last_day"] = _from_ordinal(updated + newest - 2)
        end = at + ring.length(data, at)
        facts["counts"] = data[at:end]
        at = end
    return record.read_end(data, at, facts, record.TAIL if number & TAIL else 0)


def day_of(number: int) -> int:
    """Ordinal of the day of the facts."""
    return FIRST + (number << 6 & 0x3000 | number >> 16 & 0xFFF)


_SMALL: Final = frozenset(range(101))


def _shifted(fact: Any, bit: int) -> int:
    return bool(fact) << bit
