"""From a file's cells to what ingest takes. Columns are told by their names."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from zoneinfo import ZoneInfo

from huidu.errors import InputError
from huidu.model import Attribute, AttributeType

USUAL_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "event_id": ("event_id", "payment_id", "transaction_id", "order_id", "id", "流水号", "交易号"),
    "user_id": ("user_id", "uid", "openid", "open_id", "customer_id", "user", "用户", "用户id"),
    "paid_at": ("paid_at", "paid_time", "pay_time", "timestamp", "datetime", "time", "支付时间"),
    "amount_cny": ("amount_cny", "amount_yuan", "金额", "支付金额"),
}
"""What columns of payments are usually called; ``amount`` alone does not say which currency."""

_TRUE: Final = frozenset({"true", "t", "1", "yes", "y", "是"})
_FALSE: Final = frozenset({"false", "f", "0", "no", "n", "否"})
_DAY_ONLY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def columns(
    found: Sequence[str],
    needed: Sequence[str],
    wanted: Sequence[str],
    mapped: Mapping[str, str],
) -> dict[str, str]:
    """Our name: the file's name, for every column that is used.

    Args:
        found: the file's column names.
        needed: ours that must be there.
        wanted: ours that may be there.
        mapped: the file's name: ours, as somebody said.
    Raises:
        InputError: a needed column is missing, or the mapping names what does not exist.
    """
    for theirs, ours in mapped.items():
        if theirs not in found:
            raise InputError(f"--map {theirs}={ours}: expected one of {', '.join(found)}")
        if ours not in (*needed, *wanted):
            raise InputError(
                f"--map {theirs}={ours}: expected one of {', '.join((*needed, *wanted))}"
            )
    used = {ours: theirs for theirs, ours in mapped.items()}
    lower = {name.lower().lstrip("\ufeff"): name for name in found if name not in mapped}
    for ours in (*needed, *wanted):
        if ours in used:
            continue
        for usual in USUAL_NAMES.get(ours, (ours,)):
            if usual in lower:
                used[ours] = lower[usual]
                break
    missing = [ours for ours in needed if ours not in used]
    if missing:
        raise InputError(
            f"expected a column {missing[0]}, found {', '.join(found)}; "
            f"say which it is with --map NAME={missing[0]}"
        )
    return used


def payment(row: Mapping[str, Any], zone: ZoneInfo | None) -> dict[str, Any]:
    """A payment's cells as `ingest_payments` takes them.

    Args:
        zone: where moments without an offset belong; None leaves them to be rejected. A bare day
            is noon of that day.
    """
    item = dict(row)
    for name in ("event_id", "user_id"):
        if isinstance(item.get(name), int):
            item[name] = str(item[name])  # Parquet holds numbers where CSV holds text
    moment = item.get("paid_at")
    if isinstance(moment, datetime.date) and not isinstance(moment, datetime.datetime):
        moment = moment.isoformat()
    if isinstance(moment, str) and zone is not None:
        moment = _moment(moment.strip())
    if isinstance(moment, datetime.datetime) and moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=zone)
    if moment is not None:
        item["paid_at"] = moment
    return item


def _moment(text: str) -> datetime.datetime | str:
    if _DAY_ONLY.fullmatch(text):
        text += "T12:00:00"
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        return text  # ingest says what is wrong with it


def profile(row: Mapping[str, Any], registry: Mapping[str, Attribute]) -> dict[str, Any]:
    """A profile's cells in the registry's types; ingest says what does not fit."""
    item: dict[str, Any] = {}
    for name, cell in row.items():
        attribute = registry.get(name)
        if name == "user_id":
            item[name] = str(cell) if isinstance(cell, int) else cell
        elif attribute is None or not isinstance(cell, str):
            item[name] = cell
        else:
            item[name] = _typed(attribute.type, cell.strip())
    return item


def _typed(kind: AttributeType, cell: str) -> Any:
    if kind is AttributeType.BOOLEAN:
        lower = cell.lower()
        return True if lower in _TRUE else False if lower in _FALSE else cell
    if kind in (AttributeType.INTEGER, AttributeType.NUMBER):
        try:
            number = Decimal(cell)
        except InvalidOperation:
            return cell
        return number if number.is_finite() and abs(number.adjusted()) < 30 else cell
    if kind is AttributeType.STRINGS:
        return [part.strip() for part in cell.split("|") if part.strip()]
    return cell
