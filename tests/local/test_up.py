"""The whole of it, as a newcomer runs it: started, tried, killed, stopped, started again.

One story in order, on one home: each test begins where the one before it ended.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from local import access
from local.processes import beginning
from local.servers import socket_folder
from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 600
STOP_SECONDS = 300
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the printed calls need curl")


class Running:
    """`bin/up` in a home of its own."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.port = port
        self.said = ""
        self.payment = ""
        self.process: subprocess.Popen[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        # The servers of the test run are not the ones that this home shall use.
        ours = {name: text for name, text in os.environ.items() if not name.startswith("HUIDU_")}
        ours = {name: text for name, text in ours.items() if name not in AWAY}
        return ours | {
            "HUIDU_HOME": str(self.home),
            "HUIDU_PORT": str(self.port),
            "HUIDU_DEMO_USERS": "5000",
        }

    def launch(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "local.up", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def start(self) -> None:
        """Start, and return once the greeting is complete."""
        self.said = ""
        self.process = self.launch()
        threading.Thread(target=self._listen, args=[self.process], daemon=True).start()
        self.until(lambda: "Ctrl-C stops it" in self.said, READY_SECONDS)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.said += line

    def until(self, claim: Callable[[], object], seconds: float = 300) -> None:
        """Return once `claim` holds; fails with all that was said."""
        deadline = time.monotonic() + seconds
        while not claim():
            assert self.process is None or self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def stop(self, signum: int = signal.SIGINT) -> int:
        assert self.process is not None
        self.process.send_signal(signum)
        code = self.process.wait(STOP_SECONDS)
        self.process = None
        return code

    @property
    def calls(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("curl ")]

    def call(self, number: int) -> dict[str, Any]:
        """Run a printed line exactly as printed."""
        return self.answer(self.calls[number])

    def answer(self, line: str) -> dict[str, Any]:
        """The JSON that a command line prints; empty when nobody answers."""
        done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=300)
        return dict(json.loads(done.stdout or "{}"))

    def pid(self, name: str) -> int:
        recorded = json.loads((self.home / "processes.json").read_text())
        return next(int(entry["pid"]) for entry in recorded if entry["name"] == name)

    def get(self, path: str, key: str = "") -> int:
        """The status of a request; 0 when nobody answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


AWAY = {"DATABASE_URL", "REDIS_URL", "PYTEST_XDIST_WORKER", "DJANGO_SETTINGS_MODULE"}


def processes_of(home: Path) -> list[str]:
    """Every process started for a home, grandchildren too, by what they were given to run with."""
    sockets = str(socket_folder(home))
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                given = command + (entry / "environ").read_bytes()
            except OSError:
                continue  # it ended while we looked
            mine = f"HUIDU_HOME={home}\0".encode() in given or sockets.encode() in given
            if mine and beginning(int(entry.name)):
                found.append(f"{entry.name} {command.decode(errors='replace')}")
    return found


def free_port() -> int:
    """A port that stays free while nobody listens on it: no system deals these out by itself."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("up") / "a home"
    running = Running(home, free_port())
    yield running
    if running.process is not None:
        running.stop(signal.SIGKILL)
    shutil.rmtree(socket_folder(home), ignore_errors=True)


@pytest.fixture(autouse=True)
def told_so_far(request: pytest.FixtureRequest) -> Iterator[None]:
    """A story that broke off has no meaningful rest."""
    if broken := getattr(request.module, "broken", ""):
        pytest.fail(f"not reached: {broken} failed", pytrace=False)
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        request.module.broken = request.node.name


def test_the_first_start_says_where_to_look_and_how_to_get_in(running: Running) -> None:
    running.start()
    known = access.read(running.home / "demo.json")
    assert known is not None
    assert (running.home / "demo.json").stat().st_mode & 0o777 == 0o600
    assert known.url == f"http://127.0.0.1:{running.port}"
    assert f"user {known.username}    password {known.password}" in running.said
    assert running.get("/health/ready") == 200
    assert running.get("/admin/login/") == 200


def test_the_three_printed_calls_work_as_printed(running: Running) -> None:
    # A check that a busy Redis left waiting says so, and the next one answers.
    running.until(lambda: running.call(0)["visible"] is True)
    running.until(lambda: running.call(1)["reason"] != "ERROR")
    hidden = running.call(1)
    assert hidden["visible"] is False
    assert re.fullmatch(r"[a-z_.]+", hidden["why"])
    assert running.call(2)["accepted"] == 1
    assert running.call(2)["duplicates"] == 1


def test_a_second_start_says_where_the_first_one_runs(running: Running) -> None:
    second = running.launch()
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0
    assert running.process is not None
    url = f"http://127.0.0.1:{running.port}"
    assert said == f"Huidu is already running at {url} (process {running.process.pid})\n"


def test_a_taken_port_is_one_clear_sentence_before_anything_starts(
    running: Running, tmp_path: Path
) -> None:
    other = Running(tmp_path / "other", running.port)
    start = other.launch()
    said, _ = start.communicate(timeout=300)
    assert start.returncode == 1
    assert re.fullmatch(
        rf"error: port {running.port} is taken; this one is free: HUIDU_PORT=\d+ bin/up\n", said
    )
    assert not (other.home / "postgres").exists()


@pytest.mark.parametrize("name", ["web", "worker", "beat", "places", "redis", "postgres"])
def test_whatever_is_killed_comes_back(running: Running, name: str) -> None:
    before = running.pid(name)
    os.kill(before, signal.SIGKILL)
    running.until(lambda: running.pid(name) != before)
    running.until(lambda: running.get("/health/ready") == 200)
    running.until(lambda: running.call(0).get("visible") is True)
    running.until(lambda: running.call(2).get("duplicates") == 1)
    running.until(lambda: f"{name}: was ended by SIGKILL; starts again in" in running.said)


def test_ctrl_c_stops_everything_and_ends_well(running: Running) -> None:
    assert processes_of(running.home)
    running.payment = running.calls[2]
    assert running.stop(signal.SIGINT) == 0
    running.until(lambda: processes_of(running.home) == [])
    assert not (running.home / "processes.json").exists()


def test_the_data_is_there_after_a_stop(running: Running) -> None:
    before = access.read(running.home / "demo.json")
    running.start()
    assert access.read(running.home / "demo.json") == before
    assert running.answer(running.payment)["duplicates"] == 1


def test_kill_9_of_the_supervisor_leaves_no_process(running: Running) -> None:
    running.payment = running.calls[2]
    assert running.answer(running.payment)["accepted"] == 1
    assert running.stop(signal.SIGKILL) == -signal.SIGKILL
    running.until(lambda: processes_of(running.home) == [])


def test_nothing_acknowledged_is_lost_by_kill_9(running: Running) -> None:
    running.start()
    assert running.answer(running.payment)["duplicates"] == 1


def test_a_lost_key_file_is_made_anew_and_the_old_keys_end(running: Running) -> None:
    old = access.read(running.home / "demo.json")
    assert old is not None
    assert running.stop(signal.SIGTERM) == 0
    (running.home / "demo.json").unlink()
    running.start()
    new = access.read(running.home / "demo.json")
    assert new is not None
    assert set(new.keys.values()).isdisjoint(old.keys.values())
    path = "/api/v1/flags/weilidai/users/nobody"
    assert running.get(path, new.keys["server"]) == 200
    assert running.get(path, old.keys["server"]) == 401
    assert running.stop(signal.SIGINT) == 0
