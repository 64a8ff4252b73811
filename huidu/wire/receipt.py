"""The receipt of one answered check: all that is needed to give the same answer again.

The facts are the packed record as it was read, so nothing is lost on the way into a receipt, and
what the caller said beside it. Check servers send receipts in batches, as MessagePack.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from huidu.errors import ProfileError
from huidu.model import Admission


class Receipt(msgspec.Struct, frozen=True, array_like=True):
    """One answer. New fields are added at the end, with a default.

    Args:
        decision: the id that the caller was given; its first ten characters are the time.
        at_ms: Unix time in milliseconds.
        day: proleptic ordinal of the day that windows were summed to.
        sequence: the snapshot that answered.
        record: the packed profile, empty when none was held or none could be read.
        said: what the caller said and may say, by attribute name.
        admissions: what the user was admitted to, a place taken by this very check included.
        degraded: the profile could not be read.
    """

    decision: str
    environment: str
    flag: str
    user: str
    at_ms: int
    day: int
    sequence: int
    visible: bool
    variant: str | None
    reason: str
    why: str
    stage: str | None
    flag_version: int
    code: str
    record: bytes = b""
    said: dict[str, Any] = {}
    admissions: dict[int, Admission] = {}
    degraded: bool = False


encode: Final = msgspec.msgpack.Encoder().encode
"""One receipt, or a list of them."""

_one: Final = msgspec.msgpack.Decoder(Receipt)
_many: Final = msgspec.msgpack.Decoder(list[Receipt])


def decode(data: bytes) -> Receipt:
    """Raises `ProfileError`: these bytes are no receipt."""
    try:
        return _one.decode(data)
    except msgspec.MsgspecError as error:
        raise ProfileError(f"expected a receipt, got {len(data)} bytes: {error}") from error


def decode_all(data: bytes) -> list[Receipt]:
    """Raises `ProfileError`: these bytes are no list of receipts."""
    try:
        return _many.decode(data)
    except msgspec.MsgspecError as error:
        raise ProfileError(f"expected receipts, got {len(data)} bytes: {error}") from error


_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def moment_of(decision: str) -> int | None:
    """The Unix time in milliseconds that a decision id begins with; None: it is no such id."""
    if len(decision) != 22 or any(each not in _DIGITS for each in decision):
        return None
    ms = 0
    for each in decision[:10]:
        ms = ms << 5 | _DIGITS.index(each)
    return ms if ms < 1 << 47 else None
