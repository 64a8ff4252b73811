"""Forgets a person, as PIPL art. 47 asks for: all that names them, save a pseudonym in the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import redis
from django.db import transaction
from django.db.models import Model, Q

from cohorts.services import forget as who
from cohorts.services import population
from cohorts.services.items import id_fault
from huidu.errors import InputError, StateError
from huidu.wire import names
from rollout.models import Case, CaseNote, Exposure, Flag, OutcomeEvent, Receipt, StreamMark
from rollout.services import audit, receipts, redaction, store
from rollout.services.audit import Actor
from rollout.services.pseudonyms import pseudonym, target

logger = logging.getLogger("huidu.rollout")
TABLES: tuple[type[Model], ...] = (Exposure, OutcomeEvent, Receipt)


def held(user_id: str) -> dict[type[Model], int]:
    """How many rows of each table would go."""
    tables: tuple[type[Model], ...] = (*TABLES, Case)
    ours = {model: model._default_manager.filter(user_id=user_id).count() for model in tables}
    return who.held(user_id) | {model: count for model, count in ours.items() if count}


def forget_user(user_id: str, *, by: Actor, reason: str) -> Mapping[type[Model], int]:
    """Delete everything about the user; how many rows of each table went.

    Sums that no longer name anybody (cells of metrics, sizes of draws) stay. What arrives about the
    user afterwards is stored anew: stop the sources first.

    1. Refuse while a flag, a cohort or what is published names the user: that is changed by itself.
    2. Delete the rows in one transaction with the log's entry, which holds a pseudonym; in old
       snapshots and decided requests a pseudonym takes the place of the user.
    3. Remove the record in Redis; should Redis be away, the outbox does it later.

    Raises:
        InputError: no user id, no reason, or a reason that names the user.
        StateError: a flag or a cohort names the user, or a review of theirs is under way.
    """
    if sentence := id_fault(user_id):
        raise InputError(sentence, path="user_id")
    reason = audit.clean_reason(reason)
    if user_id in reason:
        raise InputError("expected a reason that does not name the user", path="reason")
    refuse_while_named(user_id)
    refuse_while_asking(user_id)
    _take_in_receipts()
    with transaction.atomic():
        gone = who.erase(user_id)
        for model in TABLES:
            count, _ = model._default_manager.filter(user_id=user_id).delete()
            if count:
                gone[model] = count
        if emptied := _empty_cases(user_id):
            gone[Case] = emptied
        redacted = redaction.redact_snapshots(user_id)
        after: dict[str, object] = {model._meta.db_table: n for model, n in gone.items()}
        after |= {"snapshots": redacted} if redacted else {}
        if requests := redaction.redact_requests(user_id):
            after["requests"] = requests
        audit.record(
            by,
            "profile.forgotten",
            target(user_id),
            environment="all",
            after=after,
            reason=reason,
        )
        transaction.on_commit(lambda: _erase_record(user_id))
        transaction.on_commit(population.want)  # the file that previews count in names everybody
    return gone


def refuse_while_named(user_id: str) -> None:
    """Raises `StateError` naming the flags and cohorts that name the user one by one."""
    named = Q(allow_users__contains=[user_id]) | Q(block_users__contains=[user_id])
    flags = list(Flag.objects.filter(named).order_by("key").values_list("key", flat=True))
    if places := [f"flag {key}" for key in flags] + [
        f"cohort {key}" for key in who.cohorts_naming(user_id)
    ]:
        raise StateError(f"the user is named in {', '.join(places)}: take the user out there first")
    if numbers := redaction.requests_waiting_that_name(user_id):
        told = ", ".join(f"#{number}" for number in numbers)
        raise StateError(f"a change request that waits names the user ({told}): decide it first")
    if latest := redaction.snapshots_in_force_naming(user_id):
        raise StateError(
            f"the user is still named in what is published ({', '.join(latest)}): the next "
            "snapshot is on its way, try again in a moment"
        )


def refuse_while_asking(user_id: str) -> None:
    """Raises `StateError` while a review case of the user is under way: it needs what is held."""
    waiting = Case.objects.filter(user_id=user_id, status__in=Case.UNDER_WAY)
    if numbers := list(waiting.order_by("pk").values_list("pk", flat=True)):
        told = ", ".join(f"#{number}" for number in numbers)
        raise StateError(f"a review of the user is under way ({told}): decide or withdraw it first")


def _empty_cases(user_id: str) -> int:
    """Take the person out of cases that are over; that there was one, and how it ended, stays."""
    rows = Case.objects.filter(user_id=user_id)
    CaseNote.objects.filter(case__in=rows).update(text="")
    return rows.update(
        user_id="",
        pseudonym=pseudonym(user_id),
        request_id=None,
        claim="",
        reply="",
        proposal={},
        receipt=None,
    )


def _erase_record(user_id: str) -> None:
    try:
        who.erase_record(user_id)
        _trim_streams()
    except redis.RedisError as error:
        logger.warning("rollout.forget_postponed error=%s", error)


def _take_in_receipts() -> None:
    """Receipts on their way must not arrive after their like were deleted."""
    try:
        receipts.drain()
    except redis.RedisError as error:
        logger.warning("rollout.receipts_not_taken_in error=%s", error)


def _trim_streams() -> None:
    """Drop what is in the database from the streams: usually some of it is left over."""
    for mark in StreamMark.objects.filter(name__in=(names.EXPOSURES_STREAM, names.RECEIPTS_STREAM)):
        moment, _, place = mark.entry.partition("-")
        after = f"{moment}-{int(place) + 1}"
        store.client().xtrim(mark.name, minid=after, approximate=False)
