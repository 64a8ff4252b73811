"""Snapshots ready to answer, now or as they were, and the words their explanations need."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone

from cohorts.models import Attribute
from huidu.engine import Compiled, compile_snapshot
from huidu.errors import InputError
from huidu.wire import snapshot as wire
from rollout.explanations import Wording
from rollout.models import Gate, Snapshot
from rollout.services.payloads import moment
from rollout.wording import Text

_KEPT: Final[dict[tuple[str, int], tuple[str, Compiled]]] = {}
_MOST_KEPT: Final = 8


def snapshot_in_force(environment: str, at: datetime | None = None) -> Snapshot | None:
    """What was published last by `at` (now by default), without its content."""
    rows = Snapshot.objects.filter(environment=environment).defer("blob")
    if at is not None:
        rows = rows.filter(published_at__lte=at)
    return rows.order_by("-sequence").first()


def compiled_snapshot(
    environment: str, row: Snapshot | None, *, path: str = "at"
) -> tuple[Compiled, str]:
    """A snapshot ready to answer, and its version; the last few are kept.

    Raises:
        InputError: nothing was published at that time; `path` names the time asked for.
    """
    if row is None:
        raise InputError(
            f"expected a time after the first publication of {environment}, got one before it",
            path=path,
            code="snapshot.none",
        )
    kept = _KEPT.get((environment, row.sequence))
    if kept is not None and kept[0] == row.version:
        return kept[1], row.version
    blob = bytes(Snapshot.objects.values_list("blob", flat=True).get(pk=row.pk))
    compiled = compile_snapshot(wire.decode(blob))
    if len(_KEPT) >= _MOST_KEPT:
        _KEPT.clear()
    _KEPT[environment, row.sequence] = (row.version, compiled)
    return compiled, row.version


def past_moment(text: str | None, path: str) -> datetime | None:
    """A moment of a query, None if none is given.

    Raises:
        InputError: it is no ISO time, or still to come.
    """
    if text is None:
        return None
    at = moment(text.replace(" ", "+"), path)  # "+" in a query arrives as a blank
    if at is not None and at > timezone.now() + timedelta(seconds=1):
        raise InputError("expected a past moment, got one to come", path=path)
    return at


def words_for(environment: str, flag_key: str) -> Wording:
    """Names and texts for one flag's explanation, as they are written now."""
    key = flag_key.replace("\0", "")[:200]
    gates = Gate.objects.filter(flag__environment=environment, flag__key=key)
    attributes = list(Attribute.objects.all())
    return Wording(
        labels={each.name: Text(each.label_zh, each.label_en) for each in attributes},
        secret=frozenset(
            each.name for each in attributes if each.sensitivity == Attribute.Sensitivity.RISK
        ),
        gates={each.key: each for each in gates},
    )
