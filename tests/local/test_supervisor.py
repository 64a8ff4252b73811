"""The supervisor on real, tiny children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.child import Child
from local.processes import Known, Register, beginning, sweep
from local.supervisor import Backoff, Signals, Supervisor
from tests.waiting import PATIENCE

STAYS = "import time; print('here', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(15, signal.SIG_IGN); {STAYS}"
FALLS = "raise SystemExit('the disk is full')"


class Stage:
    """A supervisor, and what it said."""

    def __init__(self, folder: Path, signals: Signals) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.register = Register(folder / "processes.json")
        self.supervisor = Supervisor(
            signals, self.register, self.said.append, lambda: Backoff(0.01, 0.05, 30)
        )

    def child(self, name: str, code: str, grace: float = 10) -> Child:
        return Child(name, [sys.executable, "-c", code], self.folder / "logs", grace=grace)

    def until(self, claim: Callable[[], bool], seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not claim():
            assert time.monotonic() < deadline, self.said
            self.supervisor.wait(0.05)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Signals() as signals:
        stage = Stage(tmp_path, signals)
        yield stage
        stage.supervisor.stop([])


@pytest.mark.parametrize(
    ("lives", "pauses"),
    [
        pytest.param([0, 0, 0, 0, 0], [1, 2, 4, 8, 8], id="doubles up to the longest"),
        pytest.param([0, 0, 60, 0], [1, 2, 1, 2], id="a healthy life is forgiven"),
    ],
)
def test_pause_before_the_next_start(lives: list[float], pauses: list[float]) -> None:
    backoff = Backoff(first=1, longest=8, healthy_after=60)
    assert [backoff.pause_after(lived) for lived in lives] == pauses


def test_a_thousand_deaths_do_not_overflow_the_pause() -> None:
    backoff = Backoff(first=1, longest=8, healthy_after=60)
    assert [backoff.pause_after(0) for _ in range(1000)][-1] == 8


def test_a_child_that_dies_is_started_again_with_its_last_words(stage: Stage) -> None:
    child = stage.child("web", FALLS)
    stage.supervisor.start(child)
    stage.until(lambda: stage.supervisor.deaths(child) >= 3)
    assert "web: ended with code 1" in stage.said[0]
    assert "the disk is full" in stage.said[0]
    assert "web: started again" in stage.said


def test_a_child_that_was_killed_comes_back(stage: Stage) -> None:
    child = stage.child("worker", STAYS)
    stage.supervisor.start(child)
    assert child.process is not None
    first = child.process.pid
    os.kill(first, signal.SIGKILL)
    stage.until(lambda: child.alive and child.process is not None and child.process.pid != first)
    assert "worker: was ended by SIGKILL" in stage.said[0]


def test_children_stop_in_the_order_of_the_phases(stage: Stage) -> None:
    ends = stage.folder / "ends"
    for name in ("postgres", "web", "worker"):
        code = (
            "import signal, sys, time\n"
            f"end = lambda *_: (open({str(ends)!r}, 'a').write('{name} '), sys.exit())\n"
            "signal.signal(15, end); print('here', flush=True); time.sleep(600)"
        )
        stage.supervisor.start(stage.child(name, code))
    for name in ("postgres", "web", "worker"):
        stage.until(lambda name=name: "here" in stage.child(name, "").last_words())  # type: ignore[misc]
    stage.supervisor.stop([["web"], ["worker"]])
    assert ends.read_text().split() == ["web", "worker", "postgres"]
    assert not stage.register.file.exists()


def test_a_child_that_does_not_listen_is_killed_after_its_grace(stage: Stage) -> None:
    child = stage.child("web", STUBBORN, grace=0.2)
    stage.supervisor.start(child)
    stage.until(lambda: "here" in child.last_words())
    stage.supervisor.stop([["web"]])
    assert child.process is not None
    assert child.process.returncode == -signal.SIGKILL


def test_a_second_request_to_stop_does_not_wait_for_the_grace(stage: Stage) -> None:
    child = stage.child("web", STUBBORN, grace=600)
    stage.supervisor.start(child)
    stage.until(lambda: "here" in child.last_words())
    # Again and again: only what comes while `stop` goes on is a second request.
    again = f"import os, time\nwhile not time.sleep(0.1): os.kill({os.getpid()}, 2)"
    impatient = subprocess.Popen([sys.executable, "-c", again])
    stage.supervisor.stop([["web"]], hurried=["web"])
    impatient.kill()
    impatient.wait()
    assert child.process is not None
    assert child.process.returncode == -signal.SIGKILL


def test_ctrl_c_ends_the_run_and_reaches_no_child(stage: Stage) -> None:
    child = stage.child("web", STAYS)
    stage.supervisor.start(child)
    os.kill(os.getpid(), signal.SIGINT)
    stage.supervisor.run()
    assert child.alive
    assert child.process is not None
    assert os.getsid(child.process.pid) == child.process.pid


def test_the_next_start_ends_what_a_killed_supervisor_left(tmp_path: Path) -> None:
    register = Register(tmp_path / "processes.json")
    orphan = subprocess.Popen([sys.executable, "-c", STUBBORN], start_new_session=True)
    register.add("web", orphan.pid, signal.SIGTERM)
    said: list[str] = []
    leftovers = Register(register.file).left_behind()
    assert [known.pid for known in leftovers] == [orphan.pid]
    sweep(leftovers, said.append, seconds=0.3)
    assert orphan.wait(PATIENCE) in (-signal.SIGKILL, -signal.SIGTERM)
    assert f"web ({orphan.pid})" in said[0]
    assert Register(register.file).left_behind() == []


def test_a_process_id_that_was_used_again_is_never_ended(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", STAYS])
    recorded = Known("web", stranger.pid, "some earlier moment")
    sweep([recorded], [].append, seconds=0.1)
    assert beginning(stranger.pid)
    stranger.kill()
    stranger.wait()
    assert not beginning(stranger.pid)


@pytest.mark.parametrize("text", ["", "[{", '[{"name": "web"}]', "7"])
def test_a_damaged_register_names_nobody(tmp_path: Path, text: str) -> None:
    file = tmp_path / "processes.json"
    file.write_text(text)
    assert Register(file).left_behind() == []


def test_a_log_is_bounded_while_its_child_goes_on_writing(stage: Stage) -> None:
    code = "import time\nfor n in range(10**6): print(f'line {n}', flush=True); time.sleep(0.001)"
    child = stage.child("web", code)
    stage.supervisor.start(child)
    for _ in range(6):
        stage.until(lambda: child.log.stat().st_size > 500)
        child.bound_log(limit=500)
    kept = sorted(path.name for path in child.log.parent.iterdir())
    assert kept == ["web.log", "web.log.1", "web.log.2", "web.log.3"]
    stage.until(lambda: child.log.stat().st_size > 0)
    assert b"\0" not in child.log.read_bytes()  # it goes on at the new end, leaving no hole
