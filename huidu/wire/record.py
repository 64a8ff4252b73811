"""Format 1 of a packed profile: everything held about one user, in some thirty bytes.

Most users fit the shorter format 2, `huidu.wire.compact`.

    offset  bits                                          then, each only when its bit is set:
         0  0-1 format (1)  2 all yes/no facts known      updated: days since 1970, 2 bytes
            3 held  4 ring  5 tail  6 region  7 friends   numbers: LEB128, in the order of the bits
         1  assets  yearly  risk  registered              other dates: days since 1970, 2 bytes
            age  wifi  balance  applied                   ring: last day, then `huidu.wire.ring`
         2  which yes/no facts are true                   tail: admissions, lists, then custom
         3  which are known; left out when all are              facts by slot (MessagePack)

Money and scores are whole units shifted left by one, or hundredths shifted left by one plus one; a
region is its code without a trailing ``00``, or the whole code, in the same manner. The days of
the risk score and of the ring are told as days before `updated` (zigzag). Little-endian. An unset
bit is *unknown*: it never reads as false or 0.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Final

import msgspec

from huidu.errors import ProfileError
from huidu.model import Admission
from huidu.wire import ring

FORMAT: Final = 1
FIRST_DAY: Final = datetime.date(1970, 1, 1)
LAST_DAY: Final = FIRST_DAY + datetime.timedelta(days=0xFFFF)
MAX_NUMBER: Final = 1 << 62

FLAGS: Final = (
    "staff", "student", "consent", "invited", "holds_fenfu", "emulator", "scripted", "optout",
)  # fmt: skip
"""The yes/no facts, by bit."""

ALL_KNOWN, HELD, RING, TAIL, REGION, FRIENDS = 4, 8, 16, 32, 64, 128
ASSETS, YEARLY, RISK, REGISTERED, AGE, WIFI, BALANCE, APPLIED = (1 << bit for bit in range(8))
_ALL: Final = 0xFF
_EPOCH: Final = FIRST_DAY.toordinal()
_NONE_BY_SLOT: Final[dict[int, Any]] = {}
_NO_LISTS: Final[frozenset[int]] = frozenset()

_from_ordinal = datetime.date.fromordinal
_read_custom = msgspec.msgpack.Decoder(dict[int, Any]).decode
_write_custom = msgspec.msgpack.Encoder().encode

Number = int | float


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What the platform holds about one user; None is unknown.

    Money is in yuan and scores in points, both with at most two decimals. Without `updated` the
    platform holds no facts about the user, only admissions and lists.

    Args:
        updated: the day the facts were last brought up to date.
        risk_score: as it was on `risk_scored_on`; `huidu.wire.profile.user` lets it decay.
        last_day: the day of the newest of `counts`.
        counts: payments per day, as `huidu.wire.ring.pack` writes them.
        custom: registered custom attributes by slot.
    """

    updated: datetime.date | None = None
    region: str | None = None
    staff: bool | None = None
    friends: int | None = None
    assets_cny: Number | None = None
    yearly_spend_cny: Number | None = None
    risk_score: Number | None = None
    risk_scored_on: datetime.date | None = None
    registered_at: datetime.date | None = None
    age: int | None = None
    student: bool | None = None
    consent: bool | None = None
    invited: bool | None = None
    holds_fenfu: bool | None = None
    emulator: bool | None = None
    wifi_risk: Number | None = None
    scripted: bool | None = None
    outstanding_balance_cny: Number | None = None
    optout: bool | None = None
    applied_fenfu_at: datetime.date | None = None
    last_day: datetime.date | None = None
    counts: bytes = b""
    admissions: Mapping[int, Admission] = _NONE_BY_SLOT
    lists: frozenset[int] = _NO_LISTS
    custom: Mapping[int, Any] = _NONE_BY_SLOT

    def payments(self, today: datetime.date, days: int) -> int:
        """Payments of the `days` days that end with `today`."""
        return windows(self.counts, self.last_day, today, (days,))[0]


def windows(
    counts: bytes, last_day: datetime.date | None, today: datetime.date, lengths: Sequence[int]
) -> list[int]:
    """Payments of each window of so many days that ends with `today`."""
    if last_day is None:
        return [0] * len(lengths)
    return ring.windows(counts, last_day.toordinal() - today.toordinal(), lengths)


def encode(profile: Profile) -> bytes:
    """The record of a profile; equal profiles have equal bytes.

    Raises:
        ProfileError: a value that a record cannot hold, or facts without the day they need.
    """
    known = true = 0
    for bit, name in enumerate(FLAGS):
        fact = getattr(profile, name)
        if fact is not None:
            known |= 1 << bit
            true |= bool(fact) << bit
    first = FORMAT
    body = bytearray()
    tail = tail_of(profile)
    if tail:
        first |= TAIL
    if profile.updated is not None:
        first |= HELD
        first, second = _encode_facts(profile, profile.updated, first, body)
    else:
        second = 0
        bare = Profile(admissions=profile.admissions, lists=profile.lists, custom=profile.custom)
        if profile != bare:
            raise ProfileError("expected the day of the facts, got none", path="updated")
    if known == _ALL:
        return bytes([first | ALL_KNOWN, second, true]) + body + tail
    return bytes([first, second, true, known]) + body + tail


def _encode_facts(
    profile: Profile, updated: datetime.date, first: int, body: bytearray
) -> tuple[int, int]:
    """Append the facts; the first two bytes of the record, with a bit for each."""
    second = 0
    body += _day(updated, "updated")
    if profile.region is not None:
        first |= REGION
        body += leb(_region_number(profile.region), "region")
    if profile.friends is not None:
        first |= FRIENDS
        body += leb(profile.friends, "friends")
    if profile.assets_cny is not None:
        second |= ASSETS
        body += money_leb(profile.assets_cny, "assets_cny")
    if profile.yearly_spend_cny is not None:
        second |= YEARLY
        body += money_leb(profile.yearly_spend_cny, "yearly_spend_cny")
    if profile.risk_score is not None:
        if profile.risk_scored_on is None:
            raise ProfileError("expected the day of the score, got none", path="risk_scored_on")
        second |= RISK
        body += money_leb(profile.risk_score, "risk_score")
        body += _days_before(updated, profile.risk_scored_on)
    if profile.registered_at is not None:
        second |= REGISTERED
        body += _day(profile.registered_at, "registered_at")
    if profile.age is not None:
        second |= AGE
        body += leb(profile.age, "age")
    if profile.wifi_risk is not None:
        second |= WIFI
        body += money_leb(profile.wifi_risk, "wifi_risk")
    if profile.outstanding_balance_cny is not None:
        second |= BALANCE
        body += money_leb(profile.outstanding_balance_cny, "outstanding_balance_cny")
    if profile.applied_fenfu_at is not None:
        second |= APPLIED
        body += _day(profile.applied_fenfu_at, "applied_fenfu_at")
    if profile.counts:
        if profile.last_day is None:
            raise ProfileError("expected the day of the newest count, got none", path="last_day")
        first |= RING
        body += _days_before(updated, profile.last_day) + profile.counts
    return first, second


def tail_of(profile: Profile) -> bytes:
    """Admissions, lists and custom facts; no bytes for a user without any."""
    if not (profile.admissions or profile.lists or profile.custom):
        return b""
    tail = bytearray(leb(len(profile.admissions), "admissions"))
    for slot, admission in sorted(profile.admissions.items()):
        tail += leb(slot, "admissions")
        tail += leb(admission.weight << 1 | admission.admitted, f"admissions[{slot}]")
    tail += leb(len(profile.lists), "lists")
    for number in sorted(profile.lists):
        tail += leb(number, "lists")
    if profile.custom:
        try:
            tail += _write_custom(dict(sorted(profile.custom.items())))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ProfileError(f"expected JSON values: {error}", path="custom") from error
    return bytes(tail)


def read(data: bytes) -> dict[str, Any]:
    """What is known, by the names of `Profile`; a check uses it without making a `Profile`.

    Raises:
        ProfileError: of another format, cut off, or with bytes too many.
    """
    try:
        return _read(data)
    except ProfileError:
        raise
    except (IndexError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise ProfileError(f"a damaged record of {len(data)} bytes: {error}") from error


def _read(data: bytes) -> dict[str, Any]:
    # One long function: a check waits for it, and a call per field would cost as much again.
    first, second, true = data[:3]
    if first & 3 != FORMAT:
        raise ProfileError(f"expected format {FORMAT}, got {first & 3}; update this program")
    known, at = (_ALL, 3) if first & ALL_KNOWN else (data[3], 4)
    if not first & HELD:
        if second or known or first & (RING | REGION | FRIENDS):
            raise ProfileError("a damaged record: facts without their day")
        return read_end(data, at, {}, first)
    day = _EPOCH + (data[at] | data[at + 1] << 8)
    at += 2
    facts: dict[str, Any] = {"updated": _from_ordinal(day)}
    if known:
        facts.update(_yes_no(known, true))
    if first & REGION:
        number, at = read_number(data, at)
        facts["region"] = region_code(number)
    if first & FRIENDS:
        facts["friends"], at = read_number(data, at)
    if second & ASSETS:
        number, at = read_number(data, at)
        facts["assets_cny"] = (number >> 1) / 100 if number & 1 else number >> 1
    if second & YEARLY:
        number, at = read_number(data, at)
        facts["yearly_spend_cny"] = (number >> 1) / 100 if number & 1 else number >> 1
    if second & RISK:
        number, at = read_number(data, at)
        facts["risk_score"] = (number >> 1) / 100 if number & 1 else number >> 1
        number, at = read_number(data, at)
        facts["risk_scored_on"] = _from_ordinal(day - (number >> 1 ^ -(number & 1)))
    if second & REGISTERED:
        facts["registered_at"] = _from_ordinal(_EPOCH + (data[at] | data[at + 1] << 8))
        at += 2
    if second & AGE:
        facts["age"], at = read_number(data, at)
    if second & WIFI:
        number, at = read_number(data, at)
        facts["wifi_risk"] = (number >> 1) / 100 if number & 1 else number >> 1
    if second & BALANCE:
        number, at = read_number(data, at)
        facts["outstanding_balance_cny"] = (number >> 1) / 100 if number & 1 else number >> 1
    if second & APPLIED:
        facts["applied_fenfu_at"] = _from_ordinal(_EPOCH + (data[at] | data[at + 1] << 8))
        at += 2
    if first & RING:
        number, at = read_number(data, at)
        facts["last_day"] = _from_ordinal(day - (number >> 1 ^ -(number & 1)))
        end = at + ring.length(data, at)
        facts["counts"] = data[at:end]
        at = end
    return read_end(data, at, facts, first)


def read_end(data: bytes, at: int, facts: dict[str, Any], first: int) -> dict[str, Any]:
    """Adds the tail that begins at `at`, if `first` says that there is one, to `facts`."""
    if not first & TAIL:
        if at != len(data):
            raise ProfileError(f"a damaged record: expected {at} bytes, got {len(data)}")
        return facts
    many, at = read_number(data, at)
    if many:
        admissions = {}
        for _ in range(many):
            slot, at = read_number(data, at)
            number, at = read_number(data, at)
            admissions[slot] = admission_of(number)
        facts["admissions"] = admissions
    many, at = read_number(data, at)
    if many:
        numbers = []
        for _ in range(many):
            number, at = read_number(data, at)
            numbers.append(number)
        facts["lists"] = frozenset(numbers)
    if at < len(data):
        facts["custom"] = _read_custom(data[at:])
    elif at > len(data):
        raise ProfileError(f"a damaged record: expected {at} bytes, got {len(data)}")
    return facts


@cache
def _yes_no(known: int, true: int) -> dict[str, bool]:
    return {name: bool(true >> bit & 1) for bit, name in enumerate(FLAGS) if known >> bit & 1}


@lru_cache(1024)
def admission_of(number: int) -> Admission:
    return Admission(number >> 1, bool(number & 1))


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """A LEB128 number and where it ends."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value = byte & 0x7F
    shift = 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7


def leb(value: int, path: str) -> bytes:
    """A LEB128 number. Raises `ProfileError` with `path` outside its range."""
    if not 0 <= value <= MAX_NUMBER:
        raise ProfileError(f"expected a number from 0 to {MAX_NUMBER}, got {value}", path=path)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def money_leb(value: Number, path: str) -> bytes:
    """Whole units, or hundredths where there are some, and a bit that says which."""
    try:
        hundredths = round(value * 100)
    except (ValueError, OverflowError) as error:
        raise ProfileError(f"expected a finite number, got {value}", path=path) from error
    if hundredths % 100:
        return leb(hundredths << 1 | 1, path)
    return leb(hundredths // 100 << 1, path)


def _region_number(code: str) -> int:
    if len(code) != 6 or not (code.isascii() and code.isdigit()):
        raise ProfileError(f"expected a code of six digits, got {code!r}", path="region")
    whole = int(code)
    return whole << 1 | 1 if whole % 100 else whole // 100 << 1


def region_code(number: int) -> str:
    return f"{number >> 1:06d}" if number & 1 else f"{number >> 1:04d}00"


def _day(day: datetime.date, path: str) -> bytes:
    if not FIRST_DAY <= day <= LAST_DAY:
        raise ProfileError(f"expected a day from {FIRST_DAY} to {LAST_DAY}, got {day}", path=path)
    return (day.toordinal() - _EPOCH).to_bytes(2, "little")


def _days_before(updated: datetime.date, day: datetime.date) -> bytes:
    ago = updated.toordinal() - day.toordinal()
    return leb(ago << 1 if ago >= 0 else (-ago << 1) - 1, "days before updated")
