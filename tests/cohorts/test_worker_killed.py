"""A real process at the worker's work, a real kill -9 in the middle: the next one ends it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from cohorts.models import Admission, Draw, DrawJob, ListVersion, Profile, UserList, UserListMember
from cohorts.services import draw_jobs, list_compare, list_uploads, list_versions, rebuild
from cohorts.services.verify import verify
from huidu.model import User

ROOT = Path(__file__).resolve().parents[2]
USERS = 20_000
SMALL = 100
"""Users of one block or part, so that there are many places to be killed at."""
LISTS = "from cohorts.services import list_versions; list_versions.carry_on(seconds=900)"
DRAWS = (
    "from cohorts.services import draw_jobs; "
    f"draw_jobs.PART = {SMALL}; draw_jobs.carry_on(seconds=900)"
)
PATIENCE = 900
"""Seconds a busy machine may take for what takes a quiet one ten."""

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def worker(code: str) -> subprocess.Popen[bytes]:
    """A process of its own that does what the tick of a worker does."""
    held = connection.settings_dict
    url = f"postgresql://{held['USER']}@/{held['NAME']}?host={held['HOST']}"
    return subprocess.Popen(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", code],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "REDIS_URL": settings.REDIS_URL},
    )


def kill_in_the_middle(code: str, reached: Callable[[], bool]) -> None:
    process = worker(code)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None and not reached():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended before it could be killed"


def finish(code: str) -> None:
    assert worker(code).wait() == 0


def test_a_list_is_applied_to_the_end_after_two_kills(
    packed: Callable[[str], User | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_compare, "USERS", SMALL)
    number = UserList.objects.create(key="long", kind="allow").number
    ids = "\n".join(f"n{each:06d}" for each in range(USERS))
    version = list_uploads.upload(number, io.BytesIO(ids.encode()), file_name="x.csv", by="wang")
    with transaction.atomic():
        list_versions.begin_apply(version)

    def now() -> ListVersion:
        return ListVersion.objects.get(pk=version.pk)

    kill_in_the_middle(LISTS, lambda: now().done >= USERS // 3)
    half, members = now(), UserListMember.objects.filter(list_id=number)
    assert 0 < half.done < USERS
    assert half.state == ListVersion.State.APPLYING
    # What is said to be done is done, block by block, and nothing else.
    assert half.done == members.count() == UserList.objects.get(pk=number).size
    kill_in_the_middle(LISTS, lambda: now().packed >= USERS // 3)
    assert members.count() == USERS
    assert 0 < now().packed < USERS
    finish(LISTS)
    done = now()
    assert (done.state, done.done, done.packed) == (ListVersion.State.APPLIED, USERS, USERS)
    assert members.count() == UserList.objects.get(pk=number).size == USERS
    assert UserList.objects.get(pk=number).version == 1
    for each in range(0, USERS, 499):
        found = packed(f"n{each:06d}")
        assert found is not None
        assert found.lists == {number}


def test_a_large_draw_is_made_to_the_end_after_two_kills(redis: Any) -> None:
    now = timezone.now()
    Profile.objects.bulk_create(
        [Profile(user_id=f"n{each:06d}", updated_at=now) for each in range(USERS)],
        batch_size=5_000,
    )
    rebuild.rebuild_profiles(now)
    plan = draw_jobs.Plan(
        subject="weilidai#1",
        slot=7,
        salt="salt",
        stage_key="half",
        share_ppm=500_000,
        audience={},
        weights=[],
        previous_threshold=0,
    )
    job = draw_jobs.begin(plan, {}, now)

    def row() -> DrawJob:
        return DrawJob.objects.get(pk=job.pk)

    kill_in_the_middle(DRAWS, lambda: row().judged >= USERS // 3)
    half = row()
    assert half.state == DrawJob.State.JUDGING
    assert 0 < half.judged < USERS
    told = [len(each.users.split("\n")) for each in half.parts.all()]
    assert sum(told) == half.judged == half.eligible
    assert not Admission.objects.exists()
    finish(DRAWS)
    assert (row().state, row().judged, row().eligible) == (DrawJob.State.READY, USERS, USERS)
    with transaction.atomic():
        receipt = draw_jobs.use(row(), timezone.now())
    assert (receipt.n, receipt.population) == (USERS // 2, USERS)
    admitted = Admission.objects.filter(slot=7, admitted=True)
    kill_in_the_middle(DRAWS, lambda: row().remembered > 0 and admitted.count() >= USERS // 6)
    assert 0 < admitted.count() < USERS // 2
    assert row().state == DrawJob.State.REMEMBERING
    finish(DRAWS)
    assert row().state == DrawJob.State.DONE
    assert admitted.count() == USERS // 2
    found = verify(Draw.objects.get())
    assert (found.faults, found.repeated) == ([], True)
