"""One night of a gray release: two beats, two workers, two check servers, and all that breaks.

Workers are killed with signal 9, Redis stalls, PostgreSQL is killed in the middle of a tick,
messages are doubled and lost. Then a stage turns harmful. All processes are real and our own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local.servers import Postgres, socket_folder
from tests.edge.running import Running, Store
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]
STAGES = 20
TOKEN = "hd_server_" + "t" * 24
pytestmark = pytest.mark.slow

SET_UP = f"""
from datetime import timedelta
from django.utils import timezone
from huidu.model import FULL_THRESHOLD
from rollout.models import Flag, Guard, Metric, OutcomeEvent, Rollout, Stage
from rollout.services import keys, publishing
from rollout.services.audit import ENGINE
now = timezone.now()
pool = Metric.objects.create(environment="production", key="pool", kind="gauge")
OutcomeEvent.objects.create(
    environment="production", metric="pool", event_id="0", value=0.1, at=now
)
for number in range(1, {STAGES} + 1):
    flag = Flag.objects.create(environment="production", key=f"flag{{number}}")
    rollout = Rollout.objects.create(
        flag=flag, slot=number, status="running", started_at=now, time_scale=60
    )
    rollout.current = Stage.objects.create(
        rollout=rollout, order=1, key="all", share_ppm=1_000_000, threshold=FULL_THRESHOLD,
        status="running", entered_at=now, drawn_at=now, look_minutes=1,
        minimum_stay=timedelta(days=20), waiver="a test",
    )
    rollout.save()
    if number == 1:
        Guard.objects.create(stage=rollout.current, metric=pool, maximum=0.9, for_looks=2)
keys.create("production", "server", "a test", by=ENGINE, token={TOKEN!r})
publishing.publish("production", cause="a test", by="test")
publishing.publish_access()
"""

REPLAY = """
import json
from rollout.models import Decision
from rollout.services.replay import replay
rows = Decision.objects.order_by("stage", "look")
print(json.dumps(sum(replay(row) != [] for row in rows[:500])))
"""


class Night:
    """All processes of one deployment; each can be killed and started again."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="huidu-night-"))
        self.sockets = socket_folder(self.home)
        self.postgres = Postgres(self.home / "postgres", self.sockets)
        self.postgres.start()
        self.redis = Store()
        self.environment = os.environ | {
            "HUIDU_HOME": str(self.home),
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        self.edges: list[Running] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def django(self, script: str) -> Any:
        told = self.run("-c", f"import django; django.setup()\n{script}")
        return json.loads(told) if told.strip() else None

    def start(self, name: str) -> None:
        kind = name.rstrip("12")
        more = {
            "worker": ["--concurrency", "2", "--pool", "prefork", "-n", f"{name}@night"],
            "beat": ["--schedule", str(self.home / name), "--pidfile="],
        }[kind]
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "config.celery", kind, *more],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        process = self.processes[name]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the worker and its children
        process.wait(20)

    def ask(self, sql: str, *given: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            found = connection.execute(sql, given)
            return found.fetchall() if found.description else []

    def looks(self) -> int:
        return int(self.ask("SELECT count(*) FROM rollout_decision")[0][0])

    def goes_on(self, why: str, seconds: float = 300) -> None:
        """Every stage is looked at again."""
        before = self.ask("SELECT coalesce(max(id), 0) FROM rollout_decision")[0][0]
        sql = "SELECT count(DISTINCT stage_id) FROM rollout_decision WHERE id > %s"
        deadline = time.monotonic() + seconds
        while self.ask(sql, before)[0][0] < STAGES:
            assert time.monotonic() < deadline, f"no looks after {why}"
            time.sleep(0.2)

    def close(self) -> None:
        for name in self.processes:
            self.kill(name)
        for edge in self.edges:
            edge.stop()
        self.redis.close()
        self.postgres.stop()
        for folder in (self.home, self.sockets):
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def night() -> Iterator[Night]:
    made = Night()
    try:
        yield made
    finally:
        made.close()


def double(night: Night) -> None:
    queue = night.redis.client.lrange("celery", 0, -1)
    night.run(
        "-c",
        "from config.celery import app\n"
        "for _ in range(30): app.send_task('rollout.tasks_evidence.review_fast_stages')",
    )
    for message in queue:
        night.redis.client.lpush("celery", message)


def lose(night: Night) -> None:
    for _ in range(20):
        night.redis.client.delete("celery")
        time.sleep(0.1)


def stall_redis(night: Night) -> None:
    night.redis.stall()
    time.sleep(8)
    night.redis.resume()


def kill_worker(night: Night) -> None:
    looks = night.looks()
    wait_for(lambda: night.looks() > looks)  # it is at work
    night.kill("worker1")
    night.start("worker1")


def kill_postgres(night: Night) -> None:
    looks = night.looks()
    wait_for(lambda: night.looks() > looks)
    assert night.postgres.process is not None
    night.postgres.process.send_signal(signal.SIGQUIT)  # immediately, no checkpoint
    night.postgres.process.wait(30)
    time.sleep(2)
    night.postgres.start()


FAULTS: list[Callable[[Night], None]] = [
    kill_worker,
    double,
    lose,
    kill_postgres,
    stall_redis,
    kill_worker,
]


def test_a_night(night: Night, record_property: Callable[[str, object], None]):
    night.run("manage.py", "migrate", "--verbosity", "0")
    night.django(SET_UP)
    night.edges = [Running(night.redis), Running(night.redis)]
    for edge in night.edges:
        wait_for(lambda edge=edge: edge.see("flag1", "u1", key=TOKEN).json["visible"])
    for name in ("worker1", "worker2", "beat1", "beat2"):
        night.start(name)
    night.goes_on("the start")
    for fault in FAULTS:
        fault(night)
        night.goes_on(fault.__name__)

    night.ask(
        "INSERT INTO rollout_outcomeevent"
        " (event_id, environment, user_id, metric, value, at, recorded_at)"
        " VALUES ('1', 'production', '', 'pool', 2, now(), now())"
    )
    seconds = time_of_rollback(night)
    record_property("seconds_from_commit_to_every_node", seconds)
    print(f"rolled back on every node {seconds:.3f} s after it was committed")

    statuses = dict(night.ask("SELECT slot, status FROM rollout_rollout"))
    assert statuses.pop(1) == "rolled_back"
    assert set(statuses.values()) == {"running"}
    twice = "SELECT 1 FROM rollout_decision GROUP BY stage_id, look HAVING count(*) > 1"
    assert night.ask(twice) == []
    acts = "SELECT count(*) FROM rollout_auditentry WHERE action = 'rollout.rolled_back'"
    assert night.ask(acts) == [(1,)]
    done = "SELECT decision, acted FROM rollout_decision WHERE decision <> 'hold'"
    assert night.ask(done) == [("roll_back", True)]
    assert night.django(REPLAY) == 0


def time_of_rollback(night: Night) -> float:
    """Seconds between the commit of the rollback and the last check server's answer by it."""
    sql = "SELECT 1 FROM rollout_rollout WHERE slot = 1 AND status = 'rolled_back'"
    deadline = time.monotonic() + 60
    with psycopg.connect(night.postgres.url, autocommit=True) as connection:
        while not connection.execute(sql).fetchall():
            assert time.monotonic() < deadline, "not rolled back"
            time.sleep(0.002)
    committed = time.monotonic()
    for edge in night.edges:
        while edge.see("flag1", "u1", key=TOKEN).json["visible"]:
            assert time.monotonic() < deadline, "still shown"
    return time.monotonic() - committed
