"""bin/up: runs Huidu on this machine, with all it needs, until Ctrl-C.

Usage:
    bin/up             start; a second start of the same home only says where it runs
    bin/up --reset     ask once, then delete the data of this home, and start afresh
    bin/up --help      this

Variables:
    HUIDU_PORT         the one port for checks, API and admin (8000)
    HUIDU_HOME         folder for data, logs and keys (.huidu in the checkout)
    HUIDU_DEMO_USERS   made-up users the first start loads (100000)
    DATABASE_URL       use this PostgreSQL instead of one of our own
    REDIS_URL          use this Redis instead of one of our own

Ctrl-C stops everything in order and keeps the data; a second Ctrl-C does not wait. Exit codes: 0
stopped or already running, 1 could not start.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from local import access, examples, marker, translations
from local.child import Child, how_it_ended
from local.home import AlreadyRunningError, Home, Lock, StartError, check_port
from local.processes import Register, sweep
from local.servers import Postgres, Redis, Server, ServerError, socket_folder
from local.supervisor import Signals, Supervisor

READY_SECONDS = 180.0
DEATHS_BEFORE_READY = 3
PHASES = (("web",), ("worker", "beat", "places"), ("redis",), ("postgres",))
STEP = re.compile(r"^ *\d+\.\d+ s  (\S.*)$", re.MULTILINE)
HURRIED = ("web", "worker", "beat", "places", "prepare")


class StoppedError(Exception):
    """Somebody asked to stop before everything was up."""


def main(arguments: Sequence[str]) -> int:
    if set(arguments) - {"--reset"}:
        print(__doc__)
        return 0 if {"-h", "--help"} & set(arguments) else 2
    began = time.monotonic()
    try:
        home = read_home()
        home.make()
        with Lock(home), Signals() as signals:
            if "--reset" in arguments and not reset(home):
                return 0
            check_port(home.port)
            return Run(home, signals, began).go()
    except AlreadyRunningError as running:
        say(f"Huidu is {running}")
        return 0
    except (StartError, ServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def read_home() -> Home:
    """The folder and port of this run. Raises `StartError` for odd settings."""
    from config.environment import Environment

    try:
        environment = Environment()
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
        raise StartError(f"a setting of the environment is wrong: HUIDU_{faults}") from error
    os.environ["HUIDU_HOME"] = str(environment.home)
    os.environ["HUIDU_PORT"] = str(environment.port)
    return Home(environment.home, environment.port)


def reset(home: Home) -> bool:
    """Delete the data of a home, if the person at the terminal says so."""
    kept = {"lock"}
    files = [path for path in home.folder.rglob("*") if path.is_file() and path.name not in kept]
    size = sum(path.stat().st_size for path in files) / 1e6
    try:
        answer = input(f"Delete {len(files)} files ({size:.0f} MB) in {home.folder}? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        say("nothing deleted")
        return False
    sweep(Register(home.processes_file).left_behind(), say)
    for path in home.folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return True


class Run:
    """One run of a home, from the first process to the last."""

    def __init__(self, home: Home, signals: Signals, began: float) -> None:
        self.home = home
        self.signals = signals
        self.began = began
        self.supervisor = Supervisor(signals, Register(home.processes_file), say)
        sockets = socket_folder(home.folder)
        # A server somebody else runs is neither started nor stopped by us.
        self.redis = None if os.environ.get("REDIS_URL") else Redis(home.folder / "redis", sockets)
        self.postgres = None
        self.database_url = os.environ.get("DATABASE_URL", "")
        if not self.database_url:
            self.postgres = Postgres(home.folder / "postgres", sockets)
            self.database_url = self.postgres.url
        python = [sys.executable, "-m"]
        self.prepare = self.child(
            "prepare", [*python, "local.prepare", str(home.demo_file), home.url]
        )
        port = str(home.port)
        application = "config.asgi:application"
        self.web = self.child("web", [*python, "edge", "--app", application, "--port", port], 15)
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        self.worker = self.child("worker", [*python, "local.worker", "-c", "2", *quiet], 20)
        celery = [*python, "celery", "-A", "config.celery"]
        schedule = ["--schedule", str(home.folder / "beat-schedule"), "--pidfile="]
        self.beat = self.child("beat", [*celery, "beat", *schedule])
        manage = [sys.executable, str(Path(__file__).parents[1] / "manage.py")]
        self.places = self.child("places", [*manage, "give_places"])

    def child(self, name: str, command: list[str], grace: float = 10) -> Child:
        environment = {"PYTHONUNBUFFERED": "1"}
        return Child(name, command, self.home.logs, environment=environment, grace=grace)

    def go(self) -> int:
        """Start, serve until asked to stop, stop. Returns the exit code."""
        sweep(Register(self.home.processes_file).left_behind(), say)
        try:
            self.start()
            self.supervisor.run()
        except StoppedError:
            pass
        except BaseException:
            self.stop()
            raise
        self.stop()
        say("stopped; the data is kept")
        return 0

    def start(self) -> None:
        """Bring everything up; return once a check is answered."""
        say(f"starting Huidu in {self.home.folder}")
        translations.compile_stale()
        if self.redis:
            self.supervisor.start(self.redis)
        fresh = self.postgres is not None and not self.postgres.folder.exists()
        if fresh:  # it imports Django while the cluster is made
            self.begin_preparing()
        if self.postgres:
            self.supervisor.start(self.postgres)
        for server in (self.redis, self.postgres):
            if server:
                self.wait_for(server)
        self.report("PostgreSQL and Redis answer")
        self.supervisor.start(self.web)
        if fresh or not marker.is_current(self.database_url, self.home.demo_file):
            self.finish_preparing()
            self.report("database, demo and keys are ready")
        known = access.with_url(self.home.demo_file, self.home.url)
        assert known is not None
        asker = examples.Asker(self.home.port, known)
        self.wait_until(asker.ready, self.web)
        self.report("ready")
        self.supervisor.start(self.worker)
        self.supervisor.start(self.beat)
        self.supervisor.start(self.places)
        self.greet(known, examples.find(asker, examples.candidates(self.database_url)))

    def wait_for(self, server: Server) -> None:
        self.wait_until(server.ready, server)

    def wait_until(self, claim: Callable[[], bool], child: Child) -> None:
        """Return once `claim` holds, which is for `child` to bring about."""
        deadline = time.monotonic() + READY_SECONDS
        while not claim():
            self.supervisor.wait(0.03)
            if self.signals.stops:
                raise StoppedError
            if self.supervisor.deaths(child) >= DEATHS_BEFORE_READY:
                raise StartError(f"{child.name} does not start; its log is {child.log}")
            if time.monotonic() > deadline:
                words = child.last_words()
                raise StartError(f"{child.name} is not ready after {READY_SECONDS:.0f} s:\n{words}")

    def begin_preparing(self) -> None:
        self.prepare.log.unlink(missing_ok=True)  # its words are about this run alone
        process = self.prepare.spawn()
        self.supervisor.register.add(self.prepare.name, process.pid, self.prepare.stop_signal)

    def finish_preparing(self) -> None:
        """Run `local.prepare` to its end. Raises `StartError` with its last words."""
        if self.prepare.process is None:
            self.begin_preparing()
        told = 0
        while self.prepare.alive:
            self.supervisor.wait(0.5)
            if self.signals.stops:
                raise StoppedError
            # What takes long says so: the demo prints a line for each step it has done.
            steps = STEP.findall(self.prepare.last_words(1000))
            for step in steps[told:]:
                self.report(step)
            told = len(steps)
        assert self.prepare.process is not None
        code = self.prepare.process.returncode
        if code:
            ended = how_it_ended(code)
            raise StartError(f"preparing the database {ended}:\n{self.prepare.last_words()}")

    def stop(self) -> None:
        if self.signals.stops:
            say("stopping; once more Ctrl-C does not wait")
        self.prepare.stop()
        self.supervisor.stop(PHASES, HURRIED)

    def report(self, what: str) -> None:
        say(f"  {time.monotonic() - self.began:5.1f} s  {what}")

    def greet(self, known: access.Access, calls: Sequence[examples.Example]) -> None:
        say(f"\nHuidu is running at {known.url} (ready in {time.monotonic() - self.began:.1f} s)\n")
        say(f"  admin  {known.url}/admin/    user {known.username}    password {known.password}")
        say(f"         approvals need a second person: user {access.REVIEWER}, the same password")
        say(f"  API    {known.url}/api/docs/")
        say(f"  logs   {self.home.logs}")
        say(f"  keys   {self.home.demo_file}")
        for call in calls:
            say(f"\n# {call.says}\n{call.command}")
        say("\nCtrl-C stops it and keeps the data.")


def say(sentence: str) -> None:
    """Print for people. A terminal that went away must not end what runs."""
    try:
        print(sentence, flush=True)
    except OSError:
        # What is left in the buffer would fail again at the exit.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
