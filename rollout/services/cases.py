"""Reviews by a person (PIPL art. 24): from the customer's request to a reply, with a due date.

    new -> in review <-> waits for the customer -> decided
                     -> waits for a second person -> decided
    any of them -> withdrawn

A case keeps the answer as it was. What it changes (a corrected fact, an entry on an allow list)
goes the way of every other change: validated, logged, and by two people where the flag asks.
"""

from __future__ import annotations

from datetime import datetime, time
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from cohorts import selectors as who
from cohorts.services.items import id_fault
from huidu import model, workdays
from huidu.errors import InputError, StateError
from rollout import selectors
from rollout.models import Case, CaseNote, Flag
from rollout.services import audit, frozen, messages
from rollout.services.answering import compiled_snapshot, snapshot_in_force
from rollout.services.audit import Actor

Status, Outcome, Channel = Case.Status, Case.Outcome, Case.Channel
MAX_TEXT: Final = 4_000
MAX_REQUEST_ID: Final = 128
IN_HAND: Final = (Status.OPEN, Status.IN_REVIEW, Status.WAITING)
"""Where somebody can decide; a case that waits for a second person cannot be decided twice."""


def due_at(opened: datetime) -> datetime:
    """The end of the last working day for an answer."""
    zone = ZoneInfo(settings.HUIDU_DAY_ZONE)
    day = workdays.due_day(
        opened.astimezone(zone).date(),
        settings.HUIDU_REVIEW_WORKING_DAYS,
        holidays=settings.HUIDU_HOLIDAYS,
        worked=settings.HUIDU_WORKED_WEEKENDS,
    )
    return datetime.combine(day, time(23, 59, 59), zone)


def open_case(
    environment: str,
    flag_key: str,
    user_id: str,
    *,
    by: Actor,
    channel: str,
    claim: str = "",
    request_id: str | None = None,
    at: datetime | None = None,
) -> tuple[Case, bool]:
    """Open a case about what the user is answered, now or at a past moment.

    Asked again with the same `request_id`, or while a case of the user and flag is under way, the
    case that is there is given back.

    Returns:
        The case, and whether it is new.
    Raises:
        InputError: no such flag, no user, a text too long, or nothing was published at `at`.
        StateError: the request id belongs to another user or flag.
    """
    if sentence := id_fault(user_id):
        raise InputError(sentence, path="user")
    claim = clean(claim, "claim")
    request_id = _request_id(request_id)
    flag = selectors.flag_of(environment, flag_key)
    if flag is None:
        raise InputError(
            f"expected a flag of {environment}, got {flag_key[:100]!r}",
            path="flag",
            code="not_found",
        )
    if known := _known(flag, user_id, request_id):
        return known, False
    now = timezone.now()
    compiled, version = compiled_snapshot(environment, snapshot_in_force(environment, at))
    moment = at or now
    held = (
        who.held_user(user_id, at)
        if at
        else who.held_users([user_id]).get(user_id) or model.User(user_id, {})
    )
    receipt = frozen.freeze(
        environment, flag_key, held, compiled=compiled, version=version, at=moment
    )
    case = Case(
        environment=environment,
        flag=flag,
        user_id=user_id,
        request_id=request_id,
        channel=channel,
        claim=claim,
        opened_by=by.name,
        opened_at=now,
        due_at=due_at(now),
        why=receipt["answer"]["why"],
        visible=receipt["answer"]["visible"],
        receipt=receipt,
        receipt_hash=frozen.hash_of(receipt),
    )
    try:
        with transaction.atomic():
            case.save(force_insert=True)
            write(case, by, "opened", claim)
            _log(case, "case.opened", by, after={"channel": channel, "why": case.why})
            messages.tell_case(case, messages.CASE_OPENED, by=by)
    except IntegrityError:
        # Somebody asked at the same moment.
        if known := _known(flag, user_id, request_id):
            return known, False
        raise
    return case, True


def _known(flag: Flag, user_id: str, request_id: str | None) -> Case | None:
    if request_id is not None:
        same = Case.objects.filter(environment=flag.environment, request_id=request_id).first()
        if same is not None:
            if (same.flag_id, same.user_id) != (flag.pk, user_id):
                raise StateError(f"request {request_id!r} belongs to another question")
            return same
    return Case.objects.filter(flag=flag, user_id=user_id, status__in=Case.UNDER_WAY).first()


def assign(case: Case, person: str, *, by: Actor) -> Case:
    """Put the case into somebody's hands; a new one is in review from then on.

    Raises:
        InputError: nobody of that name may decide cases.
        StateError: the case is over.
    """
    if person not in set(reviewers().values_list("username", flat=True)):
        raise InputError(f"expected somebody who may decide cases, got {person!r}", path="person")
    with transaction.atomic():
        row = locked(case, Case.UNDER_WAY)
        row.assignee = person
        if row.status == Status.OPEN:
            row.status = Status.IN_REVIEW
        row.save()
        write(row, by, "assigned", person)
        _log(row, "case.assigned", by, after={"assignee": person})
    return row


def reviewers() -> QuerySet[Any]:
    """People who may decide cases."""
    from django.contrib.auth import get_user_model

    people = get_user_model()._default_manager
    return people.with_perm(
        "rollout.change_case", backend="django.contrib.auth.backends.ModelBackend"
    ).order_by("username")


def note(case: Case, text: str, *, by: Actor) -> CaseNote:
    """Write something down; also on a case that is over.

    Raises:
        InputError: nothing, or too long.
    """
    text = clean(text, "text", needed=True)
    with transaction.atomic():
        row = locked(case, tuple(Status))
        written = write(row, by, "note", text)
        _log(row, "case.noted", by)
    return written


def wait(case: Case, text: str, *, by: Actor) -> Case:
    """Wait for something that only the customer can bring; the due date stays.

    Raises:
        InputError: `text` does not say what for.
        StateError: nobody works on the case.
    """
    return _move(case, (Status.OPEN, Status.IN_REVIEW), Status.WAITING, "waiting", text, by)


def go_on(case: Case, text: str, *, by: Actor) -> Case:
    """What was waited for is here."""
    return _move(case, (Status.WAITING,), Status.IN_REVIEW, "goes_on", text, by)


def withdraw(case: Case, text: str, *, by: Actor) -> Case:
    """The customer no longer asks."""
    return _move(case, Case.UNDER_WAY, Status.WITHDRAWN, "withdrawn", text, by)


def uphold(case: Case, *, by: Actor, reply: str, text: str = "") -> Case:
    """The answer stands; the reply tells the customer why.

    Raises:
        InputError: no reply.
        StateError: the case is not in anybody's hands.
    """
    return close(case, Outcome.UPHELD, by=by, reply=reply, text=text)


def close(
    case: Case,
    outcome: str,
    *,
    by: Actor,
    reply: str,
    text: str = "",
    after: dict[str, Any] | None = None,
    states: tuple[str, ...] = IN_HAND,
) -> Case:
    """Decide the case; inside the transaction of what it changes, if it changes anything.

    Args:
        after: what the decision changed, for the audit log; never facts about the user.
    """
    reply = clean(reply, "reply", needed=True)
    with transaction.atomic():
        row = locked(case, states)
        row.status, row.outcome, row.reply = Status.DECIDED, outcome, reply
        row.decided_by, row.decided_at = by.name, timezone.now()
        row.save()
        write(row, by, f"decided_{outcome}", text)
        _log(row, "case.decided", by, after={"outcome": outcome, **(after or {})})
        messages.tell_case(row, messages.CASE_DECIDED, by=by)
    return row


def tell_overdue(*, now: datetime) -> int:
    """Tell each case that is late once; how many were told."""
    told = 0
    late = Case.objects.filter(
        status__in=Case.UNDER_WAY, due_at__lte=now, overdue_told_at__isnull=True
    )
    for pk in list(late.order_by("due_at").values_list("pk", flat=True)[:500]):
        with transaction.atomic():
            if late.filter(pk=pk).update(overdue_told_at=now):
                row = Case.objects.select_related("flag").get(pk=pk)
                messages.tell_case(row, messages.CASE_OVERDUE, by=audit.ENGINE)
                told += 1
    return told


def is_overdue(case: Case, now: datetime | None = None) -> bool:
    """Whether the case should have been decided by now."""
    return case.status in Case.UNDER_WAY and case.due_at <= (now or timezone.now())


def under_way(environment: str) -> QuerySet[Case]:
    return Case.objects.filter(environment=environment, status__in=Case.UNDER_WAY)


def _move(case: Case, before: tuple[str, ...], after: str, step: str, text: str, by: Actor) -> Case:
    text = clean(text, "text", needed=True)
    with transaction.atomic():
        row = locked(case, before)
        was, row.status = row.status, after
        row.save()
        write(row, by, step, text)
        _log(row, f"case.{step}", by, before={"status": was}, after={"status": after})
    return row


def locked(case: Case, states: tuple[str, ...]) -> Case:
    """The row, fresh and for this transaction alone.

    Raises:
        StateError: it is in another state.
    """
    row = Case.objects.select_for_update(of=("self",)).select_related("flag").get(pk=case.pk)
    if row.status not in states:
        wanted = ", ".join(str(each) for each in states)
        raise StateError(f"case {row.pk} is {row.status}: expected one of {wanted}")
    return row


def write(case: Case, by: Actor, step: str, text: str) -> CaseNote:
    """One line of the case's story."""
    return CaseNote.objects.create(case=case, at=timezone.now(), by=by.name, step=step, text=text)


def _log(
    case: Case,
    action: str,
    by: Actor,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """The log names the case and never the person: it cannot be erased."""
    target = f"case:{case.flag.key}#{case.pk}"
    audit.record(by, action, target, environment=case.environment, before=before, after=after or {})


def clean(text: str, path: str, *, needed: bool = False) -> str:
    """The text without blanks at its ends.

    Raises:
        InputError: nothing although needed, too long, or with a NUL.
    """
    text = text.strip()
    if needed and not text:
        raise InputError("expected at least a sentence, got nothing", path=path)
    if len(text) > MAX_TEXT or "\0" in text:
        raise InputError(
            f"expected at most {MAX_TEXT:,} characters without NUL, got {len(text):,}", path=path
        )
    return text


def _request_id(request_id: str | None) -> str | None:
    if request_id is None:
        return None
    if not 0 < len(request_id) <= MAX_REQUEST_ID or not request_id.isprintable():
        raise InputError(f"expected 1 to {MAX_REQUEST_ID} printable characters", path="request_id")
    return request_id
