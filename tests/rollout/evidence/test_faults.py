"""The night shift under faults: processes killed with signal 9 where it hurts, and side by side."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from rollout import tasks_evidence
from rollout.models import AuditEntry, Decision, Guard, Outbox, Rollout, Stage
from rollout.services import deciding, messages, review, rollouts, store
from rollout.services.replay import replay
from tests.rollout.evidence.conftest import World, at, live
from tests.rollout.evidence.test_ticks import other_stage
from tests.waiting import PATIENCE

HARM = {"failed": (0.9, 0.1)}
WORKERS, TICKS = 4, 3


def in_another_process(work: Callable[[], Any]) -> int:
    """Run `work` in a process of its own; returns how it ended, -9 where it was killed."""
    forget_connections()
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(PATIENCE)
    assert child.exitcode is not None
    return child.exitcode


def forget_connections() -> None:
    """Before a fork, or both processes would talk over one socket."""
    connection.close()
    connection.close_pool()
    store.client.cache_clear()


def die(*given: Any, **more: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def harmed(world: World) -> None:
    world.guard("failed")
    live(world, range(400), at(hours=1), seed=1, rates=HARM)


PLACES = [
    pytest.param(deciding, "_insert", 0, id="decided, not recorded", marks=pytest.mark.slow),
    pytest.param(deciding, "_is_overdue", 0, id="recorded, not committed"),
    pytest.param(review, "act", 1, id="committed, not acted upon"),
    pytest.param(rollouts, "rollback", 1, id="about to roll back", marks=pytest.mark.slow),
    pytest.param(messages, "tell_step", 1, id="rolled back, not committed"),
]


@pytest.mark.parametrize(("module", "name", "recorded"), PLACES)
def test_killed_anywhere_the_next_tick_rolls_back_once(
    world: World, module: Any, name: str, recorded: int
):
    harmed(world)
    now = at(hours=1, minutes=5)

    def work() -> None:
        setattr(module, name, die)  # in the other process only
        review.roll_up_and_review(world.stage.pk, now=now)

    assert in_another_process(work) == -signal.SIGKILL
    assert Decision.objects.count() == recorded
    assert Rollout.objects.get(pk=world.rollout.pk).status == Rollout.Status.RUNNING
    assert not Outbox.objects.filter(cause__contains="rolled_back").exists()

    for minute in (6, 6, 7):  # the tick after, a doubled one, and one more
        review.roll_up_and_review(world.stage.pk, now=at(hours=1, minutes=minute))
    decision = Decision.objects.get()
    assert (decision.decision, decision.acted) == ("roll_back", True)
    assert replay(decision) == []
    assert Rollout.objects.get(pk=world.rollout.pk).status == Rollout.Status.ROLLED_BACK
    assert AuditEntry.objects.filter(action="rollout.rolled_back").count() == 1


def test_two_beats_and_many_workers_make_one_decision_a_look(world: World):
    harmed(world)
    metric = Guard.objects.get().metric
    for number in range(30):
        Guard.objects.create(stage=other_stage(number), metric=metric, margin_rel=0.5)
    began = timezone.now() - timedelta(hours=3)
    Stage.objects.exclude(pk=world.stage.pk).filter(entered_at__isnull=False).update(
        entered_at=began
    )
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(WORKERS), context.Queue()

    def work() -> None:
        for _ in range(TICKS):
            start.wait(PATIENCE)
            results.put(tasks_evidence.review_running_stages())

    forget_connections()
    workers = [context.Process(target=work) for _ in range(WORKERS)]
    for each in workers:
        each.start()
    told = sum((Counter(results.get(timeout=PATIENCE)) for _ in range(WORKERS * TICKS)), Counter())
    for each in workers:
        each.join(PATIENCE)
    assert [each.exitcode for each in workers] == [0] * WORKERS
    looks = Decision.objects.values_list("stage", "look")
    assert len(looks) == len(set(looks)) == 31
    assert told == {"hold": 30, "roll_back": 1}
    assert AuditEntry.objects.filter(action="rollout.rolled_back").count() == 1


def test_a_clock_that_jumps_looks_no_look_twice(world: World):
    world.guard("failed")
    live(world, range(60), at(hours=1), seed=1, rates={"failed": (0.2, 0.2)})
    for hours in (2, 50, 1, 2, 49, 50, 51):  # forward by two days, back, and on
        review.roll_up_and_review(world.stage.pk, now=at(hours=hours, minutes=5))
    assert list(Decision.objects.order_by("pk").values_list("look", flat=True)) == [2, 50, 51]
    assert all(replay(each) == [] for each in Decision.objects.all())
