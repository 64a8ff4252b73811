"""The packed profile in Redis: where a user's record lies, and the user it makes for a check.

Records lie in hashes of about a hundred users, each under a 48-bit fingerprint of the user id, so
that Redis keeps them in its compact encoding. Two users of one hash share a fingerprint with a
chance of 2**-48. The formats of a record are told in `huidu.wire.record`
and `huidu.wire.compact`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from struct import Struct
from typing import Any, Final

from xxhash import xxh3_128_digest

from huidu import history
from huidu.model import Admission, Attribute, User
from huidu.risk import risk_now
from huidu.wire import compact, record
from huidu.wire.record import Profile, windows

__all__ = ["Profile", "address", "buckets_for", "decode", "encode", "user", "user_of"]

USERS_PER_HASH: Final = 160
"""At most, when the number of hashes is chosen: at least half as many, save for few users."""

WEEK_DAYS: Final = 7
MONTH_DAYS: Final = 30

_NONE: Final[dict[int, Admission]] = {}
_NO_LISTS: Final[frozenset[int]] = frozenset()


def encode(profile: Profile) -> bytes:
    """The record of a profile; equal profiles have equal bytes.

    Raises:
        ProfileError: a value that a record cannot hold, or facts without the day they need.
    """
    return compact.encode(profile) or record.encode(profile)


def read(data: bytes) -> dict[str, Any]:
    """What is known, by the names of `Profile`; a check uses it without making a `Profile`.

    Raises:
        ProfileError: of another format, cut off, or with bytes too many.
    """
    return compact.read(data) if data and data[0] & 3 == compact.FORMAT else record.read(data)


def decode(data: bytes) -> Profile:
    """Read what `encode` wrote. Raises `ProfileError` as `read` does."""
    return Profile(**read(data))


def address(user_id: str, buckets: int) -> tuple[bytes, bytes]:
    """Key and field of a user's record in Redis.

    Another number of hashes means other keys, so a rebuild writes the new records beside the old.

    Args:
        user_id: any text, lone surrogates included.
        buckets: how many hashes there are, a power of two (`huidu.wire.names.PROFILE_META`).
    """
    bucket, field = place(user_id, buckets)
    return key_of(bucket, buckets), field


def place(user_id: str, buckets: int) -> tuple[int, bytes]:
    """Number of the hash and the field in it of a user's record."""
    number, field = spread(xxh3_128_digest(user_id.encode("utf-8", "surrogatepass")))
    return number & (buckets - 1), field


spread: Final[Callable[[bytes], tuple[int, bytes]]] = Struct(">4xI2x6s").unpack
"""From the 128-bit XXH3 of a user's id: a number whose low bits are the hash's, and the field."""


def key_of(bucket: int, buckets: int) -> bytes:
    """Key of a hash in Redis."""
    return b"p%x:%x" % (buckets.bit_length() - 1, bucket)


def buckets_for(users: int) -> int:
    """How many hashes so many users are best spread over: a power of two."""
    return 1 << max(-(-users // USERS_PER_HASH) - 1, 0).bit_length()


def user(
    profile: Profile,
    key: str,
    today: int | datetime.date,
    registry: Mapping[str, Attribute],
) -> User:
    """The user as the engine judges it on `today`.

    Where facts are held, no payments is a fact: 0, not unknown.

    Args:
        key: the targeting key.
        today: the day in the platform's zone, as a date or its proleptic ordinal.
        registry: attributes by name; custom facts of unregistered slots are left out.
    """
    held = {name: getattr(profile, name) for name in Profile.__struct_fields__}
    return _user(
        {name: fact for name, fact in held.items() if fact is not None}, key, today, registry
    )


def user_of(
    data: bytes, key: str, today: int | datetime.date, registry: Mapping[str, Attribute]
) -> User:
    """`user` of `decode`, in half the time.

    Raises:
        ProfileError: the record is damaged.
    """
    return _user(read(data), key, today, registry)


def _user(
    facts: dict[str, Any], key: str, today: int | datetime.date, registry: Mapping[str, Attribute]
) -> User:
    """Turns what is held, by the names of `Profile`, into attributes, in place."""
    take = facts.pop
    counts, last_day = take("counts", b""), take("last_day", None)
    if take("updated", None) is not None:
        if isinstance(today, int):
            today = datetime.date.fromordinal(today)
        facts["weekly_payments"], facts["monthly_payments"] = windows(
            counts, last_day, today, (WEEK_DAYS, MONTH_DAYS)
        )
        facts[history.NAME] = (
            history.Paid() if last_day is None else history.Paid(counts, (last_day - today).days)
        )
        if "risk_score" in facts:
            facts["risk_score"] = risk_now(facts["risk_score"], take("risk_scored_on"), today)
    custom = take("custom", None)
    if custom:
        for name, attribute in registry.items():
            if attribute.id in custom:
                facts[name] = custom[attribute.id]
    return User(key, facts, take("admissions", _NONE), take("lists", _NO_LISTS))
