"""A pytest plugin: real PostgreSQL and Redis for the whole run, in a throw-away home.

Loaded with ``-p tests.servers`` because it must set the environment before Django reads it. With
xdist the controller starts the servers; each worker has its own database and Redis number.
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


def _start() -> None:
    home = Path(tempfile.mkdtemp(prefix="huidu-tests-"))
    sockets = socket_folder(home)
    postgres = Postgres(home / "postgres", sockets, for_tests=True)
    redis = Redis(home / "redis", sockets)
    servers: list[Server] = [postgres, redis]

    def stop() -> None:
        for server in servers:
            server.stop()
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(sockets, ignore_errors=True)

    atexit.register(stop)
    translations.compile_stale()
    for server in servers:
        server.start()
    os.environ["HUIDU_HOME"] = str(home)
    os.environ["DATABASE_URL"] = postgres.url
    os.environ["REDIS_URL"] = redis.url
    os.environ["HUIDU_TEST_SERVERS"] = str(home)


if "PYTEST_XDIST_WORKER" not in os.environ and "--collect-only" not in sys.argv:
    _start()
elif worker := os.environ.get("PYTEST_XDIST_WORKER"):
    number = int(worker.removeprefix("gw")) + 1
    os.environ["REDIS_URL"] = f"{os.environ['REDIS_URL']}?db={number}"
