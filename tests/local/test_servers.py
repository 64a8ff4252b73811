"""Real PostgreSQL and Redis as our own children."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis as redis_py

from local.processes import beginning
from local.servers import Postgres, Redis, ServerError, socket_folder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(socket_folder(tmp_path), ignore_errors=True)


def gone(pid: int, seconds: float = 120.0) -> bool:
    """Whether the process ends within `seconds`."""
    return eventually(lambda: not beginning(pid), seconds)


def eventually(claim: Callable[[], bool], seconds: float = 120.0) -> bool:
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_postgres_keeps_its_data_over_a_restart(home: Path) -> None:
    server = Postgres(home / "postgres", socket_folder(home))
    server.start()
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    server.start()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    server.stop()


def test_an_acknowledged_row_survives_kill_9_of_postgres(home: Path) -> None:
    server = Postgres(home / "postgres", socket_folder(home))
    server.start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        server.kill()
    # Old backends hold the shared memory until they notice that their parent is gone.
    assert eventually(lambda: starts(server))
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    server.stop()


def starts(server: Postgres) -> bool:
    try:
        server.start()
    except ServerError:
        return False
    return True


def test_postgres_starts_although_its_lock_names_a_stranger(home: Path) -> None:
    server = Postgres(home / "postgres", socket_folder(home))
    server.start()
    server.stop()
    (server.folder / "postmaster.pid").write_text(f"{os.getppid()}\n{server.folder}\n")
    server.start()
    assert server.ready()
    server.stop()


def test_a_half_made_cluster_is_made_again(home: Path) -> None:
    half = home / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    server = Postgres(home / "postgres", socket_folder(home), for_tests=True)
    server.start()
    assert not half.exists()
    server.stop()


def test_servers_listen_on_no_network_port(home: Path) -> None:
    postgres = Postgres(home / "postgres", socket_folder(home), for_tests=True)
    redis = Redis(home / "redis", socket_folder(home))
    postgres.start()
    redis.start()
    with psycopg.connect(postgres.url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    with redis_py.Redis(unix_socket_path=str(redis.socket)) as client:
        assert client.config_get("port") == {"port": "0"}
    assert postgres.sockets.stat().st_mode & 0o777 == 0o700
    redis.stop()
    postgres.stop()


def test_redis_keeps_its_data_over_a_restart(home: Path) -> None:
    server = Redis(home / "redis", socket_folder(home))
    server.start()
    with redis_py.Redis(unix_socket_path=str(server.socket)) as client:
        client.set("kept", "42")
    server.stop()
    server.start()
    with redis_py.Redis(unix_socket_path=str(server.socket)) as client:
        assert client.get("kept") == b"42"
    server.stop()


def test_a_server_that_cannot_start_says_its_last_words(home: Path) -> None:
    server = Redis(home / "redis", socket_folder(home))
    server.prepare()
    (home / "redis" / "appendonly.aof").write_bytes(b"not a log of commands\n")
    with pytest.raises(ServerError, match="Bad file format"):
        server.start()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs PR_SET_PDEATHSIG")
def test_kill_9_of_the_parent_leaves_no_server_behind(home: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from local.servers import *\n"
        "home = Path(sys.argv[1]); sockets = socket_folder(home)\n"
        "servers = [Postgres(home / 'postgres', sockets), Redis(home / 'redis', sockets)]\n"
        "for server in servers: server.start()\n"
        "print(*(server.process.pid for server in servers), flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    assert all(gone(pid) for pid in pids)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to be hidden")
def test_started_by_root_postgres_sees_an_ordinary_user(home: Path) -> None:
    server = Postgres(home / "postgres", socket_folder(home), for_tests=True)
    server.start()
    assert server.process is not None
    words = Path(f"/proc/{server.process.pid}/uid_map").read_text().split()
    assert words == ["1000", "0", "1"]
    assert (server.folder / "PG_VERSION").stat().st_uid == 0
    server.stop()


def test_the_socket_folder_is_short_private_and_the_same_for_one_home(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 60) / ("b" * 60)
    first, second = socket_folder(deep), socket_folder(deep.parent / "." / deep.name)
    assert first == second
    assert len(str(first / ".s.PGSQL.5432")) < 100
    assert first.stat().st_mode & 0o777 == 0o700
    first.rmdir()
