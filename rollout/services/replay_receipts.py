"""Answering again from a receipt: the same snapshot and record must give the same answer."""

from __future__ import annotations

import msgspec

from huidu import answering, model, reasons
from huidu.engine import Compiled
from huidu.engine.explain import Explanation
from huidu.errors import InputError
from huidu.model import Answer, AttributeSource
from huidu.wire import profile
from huidu.wire.receipt import Receipt
from rollout.models import Snapshot
from rollout.services.answering import compiled_snapshot
from rollout.services.replay import Difference

COMPARED = ("visible", "variant", "reason", "why", "stage", "flag_version")


def snapshot_of(receipt: Receipt) -> tuple[Compiled, str]:
    """The snapshot that answered, ready to answer again, and its version.

    Raises:
        InputError: the database does not hold it.
    """
    rows = Snapshot.objects.filter(environment=receipt.environment, sequence=receipt.sequence)
    return compiled_snapshot(receipt.environment, rows.defer("blob").first(), path="decision")


def user_of(receipt: Receipt, compiled: Compiled) -> model.User:
    """The user as judged then: the record's facts on that day, and what the caller said.

    Raises:
        ProfileError: the record is damaged.
    """
    attributes = {each.name: each for each in compiled.snapshot.attributes}
    callers = {name for name, each in attributes.items() if each.source is AttributeSource.CALLER}
    if not receipt.record:
        return model.User(receipt.user, receipt.said, receipt.admissions)
    held = {name: each for name, each in attributes.items() if name not in callers}
    user = profile.user_of(receipt.record, receipt.user, receipt.day, held)
    facts = {name: fact for name, fact in user.attributes.items() if name not in callers}
    return msgspec.structs.replace(
        user, attributes={**facts, **receipt.said}, admissions=receipt.admissions
    )


def answer_again(receipt: Receipt) -> Answer:
    """What the code of today answers.

    Raises:
        InputError: the snapshot is gone.
        ProfileError: the record is damaged.
    """
    compiled, _ = snapshot_of(receipt)
    user = user_of(receipt, compiled)
    answer = compiled.check(receipt.flag, user)
    if receipt.degraded and receipt.flag in compiled.flags:
        return answering.degraded(answer, compiled.flags[receipt.flag])
    if answer.why == reasons.FUNDING_NOT_RESERVED and receipt.why.startswith("funding."):
        # Whether a partner had room was the ledger's word, which the receipt itself records.
        return msgspec.structs.replace(
            answer,
            visible=receipt.visible,
            reason=receipt.reason,
            why=receipt.why,
            variant=receipt.variant,
            stage=receipt.stage,
        )
    return answer


def explain_again(receipt: Receipt) -> tuple[Compiled, str, Explanation, model.User]:
    """The explanation of the answer that was given: snapshot, its version, steps, user."""
    compiled, version = snapshot_of(receipt)
    user = user_of(receipt, compiled)
    return compiled, version, compiled.explain(receipt.flag, user), user


def differences(receipt: Receipt) -> list[Difference]:
    """Where the replay and the receipt part; none when they agree."""
    try:
        again = answer_again(receipt)
    except InputError as error:
        return [Difference("snapshot", receipt.sequence, str(error))]
    return [
        Difference(name, getattr(receipt, name), getattr(again, name))
        for name in COMPARED
        if getattr(receipt, name) != getattr(again, name)
    ]
