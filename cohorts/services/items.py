"""What callers send, item by item: well formed, or rejected with a code and a sentence."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, Final

import msgspec

from huidu.errors import InputError
from huidu.model import MAX_ID_CHARACTERS

MAX_ITEMS: Final = 5_000
"""Most items of one request or batch."""

MAX_AMOUNT: Final = Decimal("999999999999.99")
EARLIEST: Final = datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC)
"""First moment of a payment that a packed profile can tell the day of, in every zone."""

AHEAD: Final = datetime.timedelta(days=1)
"""How far ahead of our clock a payment may be dated: clocks differ."""

Aware = Annotated[datetime.datetime, msgspec.Meta(tz=True)]

# Control characters break logs and PostgreSQL (NUL); a lone surrogate is no Unicode text.
_NOT_IN_IDS: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Payment(msgspec.Struct, forbid_unknown_fields=True):
    """One payment as callers send it. The moment must name its offset from UTC."""

    event_id: str
    user_id: str
    paid_at: Aware
    amount_cny: Decimal | None = None


class Rejected(msgspec.Struct, frozen=True):
    """An item that was left out: its place in the list, a stable code, a sentence."""

    index: int
    code: str
    detail: str


class IngestResult(msgspec.Struct, frozen=True):
    """What became of a list of items."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]


class _Payments(msgspec.Struct, forbid_unknown_fields=True):
    payments: list[msgspec.Raw]


class _Profiles(msgspec.Struct, forbid_unknown_fields=True):
    profiles: list[dict[str, Any]]


class _AllPayments(msgspec.Struct, forbid_unknown_fields=True):
    payments: list[Payment]


_all_payments = msgspec.json.Decoder(_AllPayments)
_whole_payments = msgspec.json.Decoder(_Payments)
_whole_profiles = msgspec.json.Decoder(_Profiles)
_payment = msgspec.json.Decoder(Payment)
_profile_text = msgspec.json.Decoder(dict[str, Any])


def read_payments(body: bytes) -> list[Payment | Rejected]:
    """The items of ``{"payments": [...]}``.

    Raises:
        InputError: the request as a whole is wrong: not JSON, of another shape, or too long.
    """
    try:
        # Nearly always all items are well formed, and one call reads them.
        found: list[Payment | Rejected] = [*_all_payments.decode(body).payments]
        body.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_each(body)
    _check_length(found, "payments")
    return found


def _read_each(body: bytes) -> list[Payment | Rejected]:
    """Item by item, so that a faulty one is rejected alone."""
    whole = _read(_whole_payments, body).payments
    _check_length(whole, "payments")
    items: list[Payment | Rejected] = []
    for index, raw in enumerate(whole):
        try:
            items.append(_payment.decode(raw))
        except msgspec.ValidationError as error:
            items.append(rejected(index, error, Payment))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"expected JSON: {error}", path=f"payments[{index}]") from None
    return items


def payments_of(
    items: Sequence[Payment | Rejected | Mapping[str, Any]],
) -> Sequence[Payment | Rejected]:
    """Items given as mappings, such as rows of a file, in the form `read_payments` has."""
    _check_length(items, "payments")
    kinds = set(map(type, items))
    if kinds <= {Payment, Rejected}:
        return items  # type: ignore[return-value]
    if kinds == {dict}:
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(items, list[Payment])
    read: list[Payment | Rejected] = []
    for index, item in enumerate(items):
        if isinstance(item, Payment | Rejected):
            read.append(item)
            continue
        try:
            read.append(msgspec.convert(item, Payment))
        except msgspec.ValidationError as error:
            read.append(rejected(index, error, Payment))
    return read


def countable(
    items: Sequence[Payment | Rejected], latest: datetime.datetime
) -> tuple[list[Payment], list[Rejected]]:
    """The payments that can be counted, and those that cannot.

    Args:
        latest: payments after this moment lie too far ahead of our clock.
    """
    payments = [item for item in items if type(item) is Payment]
    if len(payments) == len(items) and _all_in_range(payments, latest):
        return payments, []
    payments, rejected = [], []
    for index, item in enumerate(items):
        if isinstance(item, Rejected):
            rejected.append(item)
        elif fault := fault_of(item, latest):
            rejected.append(Rejected(index, *fault))
        else:
            payments.append(item)
    return payments, rejected


def _all_in_range(payments: Sequence[Payment], latest: datetime.datetime) -> bool:
    """Whether `fault_of` finds nothing, asked of all at once: extremes tell of the rest."""
    if not payments:
        return True
    events = [each.event_id for each in payments]
    users = [each.user_id for each in payments]
    moments = [each.paid_at for each in payments]
    amounts = [each.amount_cny for each in payments if each.amount_cny is not None]
    sizes = [*map(len, events), *map(len, users)]
    try:
        return (
            min(sizes) > 0
            and max(sizes) <= MAX_ID_CHARACTERS
            and "".join(events).isprintable()
            and "".join(users).isprintable()
            and min(moments) >= EARLIEST
            and max(moments) <= latest
            and (not amounts or (min(amounts) >= 0 and max(amounts) <= MAX_AMOUNT))
        )
    except (ArithmeticError, OverflowError):  # not a number, or an end of the calendar
        return False


def read_profiles(body: bytes) -> list[dict[str, Any]]:
    """The items of ``{"profiles": [...]}``, each with any fields.

    Raises:
        InputError: the request as a whole is wrong: not JSON, of another shape, or too long.
    """
    items: list[dict[str, Any]] = _read(_whole_profiles, body).profiles
    _check_length(items, "profiles")
    return items


def _read(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        body.decode()  # the decoder looks closely only at the parts it wants
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        sentence, _, path = str(error).partition(" - at `$")
        raise InputError(lower(sentence), path=path.rstrip("`").lstrip(".")) from None
    except RecursionError:
        raise InputError("expected a list of objects, got something nested far deeper") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"expected JSON: {error}") from None


def _check_length(items: Sequence[Any], path: str) -> None:
    if len(items) > MAX_ITEMS:
        raise InputError(
            f"expected at most {MAX_ITEMS} items, got {len(items)}",
            path=path,
            code="input.too_large",
        )


def fault_of(payment: Payment, latest: datetime.datetime) -> tuple[str, str] | None:
    """Why a well-formed payment cannot be counted, as code and sentence, or None when it can.

    Args:
        latest: payments after this moment lie too far ahead of our clock.
    """
    for name in ("event_id", "user_id"):
        if sentence := id_fault(getattr(payment, name)):
            return f"{name}.invalid", sentence
    paid_at = payment.paid_at
    # By year first: moments near either end of the calendar cannot be moved to another zone.
    if paid_at.year > latest.year + 1 or paid_at > latest:
        return "paid_at.future", f"expected a moment up to {latest:%Y-%m-%dT%H:%MZ}, got {paid_at}"
    if paid_at.year < EARLIEST.year or paid_at < EARLIEST:
        return "paid_at.past", f"expected a moment after 1970-01-01, got {paid_at}"
    amount = payment.amount_cny
    if amount is None:
        return None
    if not amount.is_finite() or amount > MAX_AMOUNT:
        return "amount_cny.invalid", f"expected an amount up to {MAX_AMOUNT}, got {amount:.6g}"
    if amount < 0:
        return "amount_cny.negative", f"expected 0 or more, got {amount}: a refund is no payment"
    return None


def id_fault(text: str) -> str | None:
    """Why a text cannot be the id of a user or an event, or None when it can.

    Any Unicode text of 1 to 128 characters will do, emoji included; no control characters.
    """
    if not 0 < len(text) <= MAX_ID_CHARACTERS:
        return f"expected 1 to {MAX_ID_CHARACTERS} characters, got {len(text)}"
    if not text.isprintable() and _NOT_IN_IDS.search(text):
        return "expected Unicode text without control characters, got one that has some"
    return None


_UNKNOWN_FIELD: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING_FIELD: Final = re.compile(r"Object missing required field `(.*)`")


def rejected(
    index: int,
    error: msgspec.ValidationError,
    item: type[msgspec.Struct],
    wanted: Mapping[str, str] = MappingProxyType({}),
) -> Rejected:
    """msgspec's sentence with a stable code.

    Args:
        item: what was expected; its fields are told when another one came.
        wanted: what would be right, by field, where msgspec says only what went wrong.
    """
    sentence, _, path = str(error).partition(" - at `$")
    name = path.rstrip("`").lstrip(".")
    if found := _UNKNOWN_FIELD.fullmatch(sentence):
        known = ", ".join(item.__struct_fields__)
        return Rejected(index, "field.unknown", f"expected {known}; got {found[1][:64]!r}")
    if found := _MISSING_FIELD.fullmatch(sentence):
        return Rejected(index, f"{found[1]}.missing", "expected a value, got none")
    if "timezone component" in sentence:
        detail = "expected an offset from UTC, as in 2026-01-31T12:00:00+08:00, got none"
        return Rejected(index, f"{name}.zone_missing", detail)
    if wanted and not sentence.startswith("Expected"):
        sentence = f"expected {wanted.get(name, 'another value')}: {lower(sentence)}"
    return Rejected(index, f"{name or 'item'}.invalid", lower(sentence))


def lower(sentence: str) -> str:
    """msgspec's sentence in our spelling: ``expected an ..., got ...``."""
    return (sentence[:1].lower() + sentence[1:]).replace("`", "")
