"""Snapshots ready to answer, now or as they were, and the words their explanations need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection
from django.utils import timezone

from cohorts import mappers
from cohorts.models import Attribute
from huidu import model
from huidu.engine import Compiled, compile_snapshot
from huidu.errors import InputError
from huidu.wire import snapshot as wire
from rollout.explanations import AUDIENCES, Wording
from rollout.models import AuditEntry, Flag, FundingPartner, Gate, Snapshot, Stage
from rollout.services import reason_texts
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
    return standing(environment, flag_key).words


_GATE_WORDS: Final = (
    *("key", "label_zh", "label_en", "dimension", "why"),
    *(f"{voice}_{language}" for voice in AUDIENCES for language in ("zh", "en")),
)


def words_at(environment: str, flag_key: str, at: datetime | None) -> Wording:
    """Names and texts as they were in force at a moment; now, if none is given.

    What gates said then is read from the audit log: every edit of theirs is one of its entries.
    """
    now = words_for(environment, flag_key)
    if at is None:
        return now
    gates = dict(now.gates)
    edits = AuditEntry.objects.filter(
        environment=environment, target__startswith=f"gate:{flag_key}/", at__lte=at
    )
    told: dict[str, Mapping[str, Any]] = {}
    for edit in edits.order_by("sequence"):
        key = edit.target.partition("/")[2]
        if edit.action == "gate.removed":
            told.pop(key, None)
        else:
            told[key] = {**told.get(key, {}), **(edit.after or {})}
    for key, values in told.items():
        base = {name: getattr(gates[key], name) for name in _GATE_WORDS} if key in gates else {}
        changed = {name: values[name] for name in _GATE_WORDS if name in values}
        gates[key] = Gate(**{**base, **changed})
    return replace(now, gates=gates, texts=reason_texts.in_force(environment, at))


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What explanations of one flag rest on besides the user, as it is now.

    `snapshot` is what was published last, `capacity_why` the code of the gate that hands out
    places (None without one), `partners` those of the flag, in no order.
    """

    snapshot: Snapshot | None
    registry: Mapping[str, model.Attribute]
    words: Wording
    capacity_why: str | None
    partners: Sequence[FundingPartner]


_STANDING: Final[dict[tuple[str, str], tuple[tuple[Any, ...], Standing]]] = {}
_MOST_STANDING: Final = 64

# The mark is a hash of the rows themselves: whoever wrote them, what is kept is never out of date.
_MARK: Final = """
SELECT md5(concat_ws(
           '|',
           (SELECT string_agg(each::text, '' ORDER BY id) FROM cohorts_attribute AS each),
           (SELECT string_agg(each::text, '' ORDER BY id)
            FROM rollout_gate AS each WHERE each.flag_id = flag.id),
           (SELECT string_agg(each::text, '' ORDER BY id)
            FROM rollout_fundingpartner AS each WHERE each.flag_id = flag.id),
           -- Written once: a new version is a new row.
           (SELECT max(id) FROM rollout_reasontext AS each
            WHERE each.environment = asked.environment),
           (SELECT string_agg(concat_ws('|', each.key, each.label_zh, each.label_en), '' ORDER BY
                              each.id)
            FROM rollout_stage AS each JOIN rollout_rollout AS plan ON plan.id = each.rollout_id
            WHERE plan.flag_id = flag.id),
           flag.label_zh, flag.label_en
       )),
       flag.id, newest.id, newest.sequence, newest.version
FROM (VALUES (%(environment)s, %(flag)s)) AS asked (environment, key)
LEFT JOIN rollout_flag AS flag USING (environment, key)
LEFT JOIN LATERAL (
    SELECT id, sequence, version FROM rollout_snapshot
    WHERE environment = asked.environment ORDER BY sequence DESC LIMIT 1
) AS newest ON true
"""


def standing(environment: str, flag_key: str) -> Standing:
    """All of it in one query, as long as nothing changed; a few more after a change."""
    flag_key = flag_key.replace("\0", "")[:200]
    with connection.cursor() as cursor:
        cursor.execute(_MARK, {"environment": environment, "flag": flag_key})
        mark = cursor.fetchall()[0]
    kept = _STANDING.get((environment, flag_key))
    if kept is not None and kept[0] == mark:
        return kept[1]
    found = _read_standing(environment, flag_key, *mark[1:])
    if mark[1] is not None:  # names of flags that are not there would fill the memory
        if len(_STANDING) >= _MOST_STANDING:
            _STANDING.clear()
        _STANDING[environment, flag_key] = (mark, found)
    return found


def _read_standing(
    environment: str, key: str, flag: int | None, pk: int | None, sequence: int, version: str
) -> Standing:
    gates = list(Gate.objects.filter(flag=flag)) if flag is not None else []
    named = Flag.objects.filter(pk=flag).first() if flag is not None else None
    attributes = list(Attribute.objects.order_by("id"))
    secret = {each.name for each in attributes if each.sensitivity in Attribute.NEVER_TOLD}
    return Standing(
        snapshot=None
        if pk is None
        else Snapshot(pk=pk, environment=environment, sequence=sequence, version=version),
        registry={each.name: mappers.attribute(each) for each in attributes},
        words=Wording(
            labels={each.name: Text(each.label_zh, each.label_en) for each in attributes},
            secret=frozenset(secret),
            gates={each.key: each for each in gates},
            texts=reason_texts.in_force(environment),
            stages={
                key: Text(zh, en)
                for key, zh, en in Stage.objects.filter(rollout__flag=flag)
                .order_by("rollout__slot")
                .values_list("key", "label_zh", "label_en")
            },
            product=Text(named.label_zh or key, named.label_en or key) if named else Text(key, key),
        ),
        capacity_why=next((each.why for each in gates if each.capacity), None),
        partners=list(FundingPartner.objects.filter(flag=flag)) if flag is not None else [],
    )
