"""Daily payment counts of the last `DAYS` days in a few bytes, and their window sums.

Counts are written newest first, each as a quotient and `k` low bits (Rice coding): all quotients
in unary (so many ones, then a zero), then one plane of `DAYS` bits per low bit. Zero bytes at the
end are left out. A user with one payment a day takes some eight bytes, one without payments none.

    byte 0   k in the top three bits, length in bytes of what follows in the other five
    k = 7    instead: the length counts LEB128 numbers, for users with very many payments

Source: R. F. Rice 1979, "Some practical universal noiseless coding techniques".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from huidu.errors import ProfileError

DAYS: Final = 31
"""30 for the longest window, and one because a payment may be dated a day ahead of the clock."""

_PLAIN: Final = 7
_LONGEST: Final = 31
_ALL_ZERO: Final = "0" * DAYS
_UNARY: Final = tuple("1" * count + "0" for count in range(8 * _LONGEST + 1))


def pack(counts: Sequence[int]) -> bytes:
    """The bytes of the counts of consecutive days, newest first.

    Args:
        counts: at most `DAYS` numbers of 0 or more; missing ones are 0.
    Raises:
        ProfileError: too many counts, or a negative one.
    """
    if len(counts) > DAYS:
        raise ProfileError(f"expected at most {DAYS} daily counts, got {len(counts)}")
    if counts and min(counts) < 0:
        raise ProfileError(f"expected counts of 0 or more, got {min(counts)}")
    if not any(counts):
        return b""
    k = _low_bits(counts)
    rice = _rice(counts, k) if sum(counts) >> k <= 8 * _LONGEST else None
    if k < 2 and rice is not None:
        return rice
    plain = _plain(counts)
    return plain if rice is None or len(plain) < len(rice) else rice


def _low_bits(counts: Sequence[int]) -> int:
    """The number of low bits that makes the shortest text: sizes fall, then rise."""
    size = sum(counts)
    for k in range(1, _PLAIN):
        with_one_more = sum([count >> k for count in counts]) + k * DAYS
        if with_one_more >= size:
            return k - 1
        size = with_one_more
    return _PLAIN - 1


def _rice(counts: Sequence[int], k: int) -> bytes | None:
    """None when it takes more bytes than the length can tell."""
    missing = "0" * (DAYS - len(counts))
    bits = "".join([_UNARY[count >> k] for count in counts]) + missing
    for plane in range(k):
        bits += "".join(["1" if count >> plane & 1 else "0" for count in counts]) + missing
    size = (len(bits) + 7) // 8
    body = int(bits.ljust(size * 8, "0"), 2).to_bytes(size, "big").rstrip(b"\0")
    return bytes([k << 5 | len(body)]) + body if len(body) <= _LONGEST else None


def _plain(counts: Sequence[int]) -> bytes:
    numbers = list(counts)
    while numbers and not numbers[-1]:
        numbers.pop()
    body = bytearray([_PLAIN << 5 | len(numbers)])
    for number in numbers:
        while number > 0x7F:
            body.append(number & 0x7F | 0x80)
            number >>= 7
        body.append(number)
    return bytes(body)


def length(data: bytes, at: int) -> int:
    """How many bytes the ring that starts at `at` takes. Raises `IndexError` where it is cut."""
    head = data[at]
    if head >> 5 != _PLAIN:
        return 1 + (head & 0x1F)
    end = at + 1
    for _ in range(head & 0x1F):
        while data[end] > 0x7F:
            end += 1
        end += 1
    return end - at


def unpack(data: bytes) -> tuple[int, ...]:
    """All `DAYS` counts, newest first.

    Raises:
        ProfileError: the bytes are no ring.
    """
    if not data:
        return (0,) * DAYS
    k = data[0] >> 5
    if k == _PLAIN:
        numbers = _plain_numbers(data)
        return (*numbers, *([0] * (DAYS - len(numbers))))
    quotients, planes = _read(data)
    counts = [len(ones) << k for ones in quotients]
    for plane in range(k):
        bits = planes[plane * DAYS : (plane + 1) * DAYS]
        counts = [
            count + (1 << plane) if bit == "1" else count
            for count, bit in zip(counts, bits, strict=True)
        ]
    return tuple(counts)


def windows(data: bytes, skip: int, lengths: Sequence[int]) -> list[int]:
    """How many payments each window holds, all of which end `skip` days before the ring's newest.

    Args:
        skip: negative when the windows end after the ring's newest day.
        lengths: of the windows in days; days older than the ring count as without payments.
    """
    if not data:
        return [0] * len(lengths)
    start = max(skip, 0)
    ends = [max(skip + days, start) for days in lengths]
    k = data[0] >> 5
    if k == _PLAIN:
        numbers = _plain_numbers(data)
        return [sum(numbers[start:end]) for end in ends]
    quotients, planes = _read(data)
    ones = list(map(len, quotients))
    totals = [sum(ones[start:end]) << k for end in ends]
    for plane in range(k):
        bits = planes[plane * DAYS : (plane + 1) * DAYS]
        for index, end in enumerate(ends):
            totals[index] += bits.count("1", start, end) << plane
    return totals


def _read(data: bytes) -> tuple[list[str], str]:
    """Each day's quotient as a run of ones, and the planes of the low bits as text."""
    size = len(data) - 1
    k = data[0] >> 5
    bits = f"{int.from_bytes(data[1:], 'big'):0{size * 8}b}" if size else ""
    quotients = (bits + _ALL_ZERO).split("0", DAYS)
    planes = quotients.pop()
    if len(quotients) != DAYS:
        raise ProfileError(f"expected {DAYS} daily counts, found {len(quotients)}")
    return quotients, planes.ljust(k * DAYS, "0") if k else planes


def _plain_numbers(data: bytes) -> list[int]:
    numbers = []
    value = shift = 0
    for byte in data[1:]:
        value |= (byte & 0x7F) << shift
        if byte > 0x7F:
            shift += 7
            continue
        numbers.append(value)
        value = shift = 0
    return numbers
