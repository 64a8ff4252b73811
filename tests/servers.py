"""A pytest plugin: real PostgreSQL and Redis for the whole run, in a throw-away home.

Loaded with ``-p tests.servers`` because it must set the environment before Django reads it. With
xdist the controller starts the servers; each worker has its own database, and a Redis of its own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from local import translations
from local.servers import Postgres, Redis, Server, socket_folder

HOME = "HUIDU_TEST_SERVERS"


def _start_all() -> None:
    home = Path(tempfile.mkdtemp(prefix="huidu-tests-"))
    sockets = socket_folder(home)
    postgres = Postgres(home / "postgres", sockets, for_tests=True)
    redis = Redis(home / "redis", sockets)
    _run(home, sockets, [postgres, redis])
    translations.compile_stale()
    os.environ["HUIDU_HOME"] = str(home)
    os.environ["DATABASE_URL"] = postgres.url
    os.environ["REDIS_URL"] = redis.url
    os.environ[HOME] = str(home)


def _start_redis_of(worker: str) -> None:
    """A Redis for one worker: pub/sub crosses database numbers, so a number would not do."""
    home = Path(os.environ[HOME]) / worker
    sockets = socket_folder(home)
    redis = Redis(home / "redis", sockets)
    _run(home, sockets, [redis])
    os.environ["REDIS_URL"] = redis.url


def _run(home: Path, sockets: Path, servers: list[Server]) -> None:
    """Start the servers; stop them and remove their folders when this process ends."""

    def stop() -> None:
        for server in servers:
            server.stop()
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(sockets, ignore_errors=True)

    atexit.register(stop)
    for server in servers:
        server.start()


if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    _start_redis_of(worker)
elif "--collect-only" not in sys.argv:
    _start_all()
