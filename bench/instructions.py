"""Instructions a check takes in user code, which no neighbour on the machine disturbs.

    python bench/instructions.py [--kind prototype] [--functions 40]    (a minute; needs valgrind)
    python bench/instructions.py --kind local        the direct client; `floor` is what it stands on

One process without a network: requests are handed to the protocols of sixteen connections, and the
replies Redis would send to the link, sixteen a turn of the loop; what is written goes nowhere.
Callgrind counts from `os.getppid` to `os.getpgrp`, functions of the interpreter that nothing else
calls. The kernel and uvloop are not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
TURN, TURNS = 16, 64
USERS = 100_000
KINDS = ("single", "bulk", "drawn", "prototype", "local", "floor")
"""`drawn` is a bulk of a hundred flags, each with a draw of its own: no two users get the same."""
WARM, COUNTED = 70, 320
TOTAL = "PROGRAM TOTALS"


async def checks(kind: str, *, timed: bool) -> None:
    """Ask and answer, in a process of its own."""
    from edge.serve import _settle_memory

    if kind in ("local", "floor"):
        take_turn = local(kind)
    else:
        take_turn = prototype() if kind == "prototype" else server(kind)
    _settle_memory()
    if timed:  # the quickest turn there was
        spans = []
        for number in range(8_000):
            begun = time.perf_counter()
            take_turn(number)
            spans.append(time.perf_counter() - begun)
        print(f"{min(spans) / TURN * 1e6:.2f} us, {sorted(spans)[400] / TURN * 1e6:.2f} us")
        return
    for number in range(WARM + COUNTED):
        if number == WARM:
            os.getppid()
        take_turn(number)
    os.getpgrp()


def server(kind: str) -> Callable[[int], None]:
    """A turn of the check server."""
    from uvicorn.server import ServerState

    from edge.protocol import HuiduProtocol
    from edge.serve import Config
    from edge.settings import Settings
    from edge.state import World
    from huidu.engine import compile_snapshot
    from huidu.model import Flag, Snapshot
    from huidu.turns import no_pause
    from huidu.wire.access import Access, Key, KeyKind, digest
    from tests.edge.running import ATTRIBUTES, ENVIRONMENT, SERVER, flags, rollout

    settings = Settings(
        home=Path("nowhere"),
        environment=ENVIRONMENT,
        day_zone="Asia/Shanghai",
        redis_url="unix:///nowhere",
    )
    config = Config(settings=settings)
    config.load()
    edge = config.edge
    first = flags()[0]
    more = [
        Flag(
            key=f"flag-{number}",
            version=1,
            gates=first.gates,
            rollout=rollout(100 + number, half=kind == "drawn"),
        )
        for number in range(99)
    ]
    snapshot = Snapshot(
        environment=ENVIRONMENT,
        sequence=1,
        published_at="2026-01-01T00:00:00Z",
        attributes=ATTRIBUTES,
        cohorts=[],
        flags=[first, *more],
    )
    key = Key(id=1, digest=digest(SERVER), kind=KeyKind.SERVER, environment=ENVIRONMENT)
    edge.state.take_world(World(snapshot, compile_snapshot(snapshot), "v", edge.metrics.answers))
    world = edge.state.world
    assert world is not None
    world.evaluate_for(KeyKind.SERVER)
    world.put_together(no_pause)
    edge.state.take_access(Access(sequence=1, keys=[key]))
    edge.state.take_buckets(1024)
    state = ServerState()
    state.default_headers = [(b"date", b"Sat, 28 Nov 2026 16:30:34 GMT")]
    edge._server_state = state
    loop = asyncio.get_running_loop()
    profiles = edge.profiles
    profiles._loop = Soon(loop)  # type: ignore[assignment]  # commands are sent below
    profiles.link.alive = True
    profiles.link._transport = Nowhere()  # type: ignore[assignment]
    connections = []
    for _ in range(TURN):
        connection = HuiduProtocol(config, state, {}, loop)
        connection.connection_made(Nowhere())  # type: ignore[arg-type]
        connections.append(connection)
    requests = requests_of("/weilidai" if kind == "single" else "", SERVER)
    replies = replies_of()

    def take_turn(number: int) -> None:
        start = number % TURNS * TURN
        for connection, request in zip(connections, requests[start : start + TURN], strict=True):
            connection.data_received(request)
        profiles._send()
        profiles.link.data_received(replies[number % TURNS])
        assert not profiles.waiters

    return take_turn


def prototype() -> Callable[[int], None]:
    """A turn of `bench/prototype.py`, the least a check can be."""
    from bench.prototype import Prototype, Redis
    from edge.profiles import Commands
    from tests.edge.running import SERVER

    redis = Redis(Commands(1024))
    redis.connection_made(Nowhere())
    redis.loop = Soon(asyncio.get_running_loop())  # type: ignore[assignment]
    Prototype.redis = redis
    connections = [Prototype.__new__(Prototype) for _ in range(TURN)]
    for connection in connections:
        connection.transport = Nowhere()  # type: ignore[assignment]
    requests = requests_of("/weilidai", SERVER)
    replies = replies_of()

    def take_turn(number: int) -> None:
        start = number % TURNS * TURN
        for connection, request in zip(connections, requests[start : start + TURN], strict=True):
            connection.data_received(request)
        redis.send()
        redis.data_received(replies[number % TURNS])
        assert not redis.waiting

    return take_turn


def local(kind: str) -> Callable[[int], None]:
    """A turn of `bench/local_check.py`, or of an empty call and one hash."""
    sys.path.insert(0, str(ROOT / "bench" / "peers"))
    import one_peer
    import peer_huidu
    from world import population

    users = population()[: TURNS * TURN]
    client, flag, hashed = peer_huidu.client(), "weilidai", one_peer.floor()
    client.close()

    def take_turn(number: int) -> None:
        start = number % TURNS * TURN
        check = client.check
        for user, attributes in users[start : start + TURN]:
            check(flag, user, attributes)

    def hash_turn(number: int) -> None:
        start = number % TURNS * TURN
        for user, attributes in users[start : start + TURN]:
            hashed(user, attributes)

    return take_turn if kind == "local" else hash_turn


def requests_of(path: str, key: str) -> list[bytes]:
    """Requests of different users, a tenth of them with shorter ids, as in `bench/edge.py`."""
    made = []
    for number in range(TURNS * TURN):
        body = f'{{"context":{{"targetingKey":"u{number * 7_919 % USERS}"}}}}'
        made.append(
            (
                f"POST /ofrep/v1/evaluate/flags{path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n"
                f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )
    return made


def replies_of() -> list[bytes]:
    """Redis's replies to each turn's commands."""
    from bench.edge_world import user_number
    from huidu.wire import profile
    from tests.edge.running import ZONE

    today = datetime.now(ZONE).date()
    replies = []
    for number in range(TURNS * TURN):
        record = profile.encode(user_number(number, today))
        replies.append(b"$%d\r\n%b\r\n" % (len(record), record))
    return [b"".join(replies[at : at + TURN]) for at in range(0, len(replies), TURN)]


class Soon:
    """A loop that calls nobody soon."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.call_later = loop.call_later

    def call_soon(self, _: object) -> None:
        pass


class Nowhere:
    """A transport that writes nothing, at the price of a built-in call."""

    write = deque[bytes](maxlen=0).append

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return False


def count(kind: str, folder: Path) -> dict[str, float]:
    """Own instructions a check by C function."""
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
    command += ["--zero-before=os_getppid", "--dump-before=os_getpgrp", sys.executable]
    command += [str(Path(__file__)), "--child", "--kind", kind]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": "0"}
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    listed = subprocess.run(
        ["callgrind_annotate", "--threshold=100", "--auto=no", str(folder / "out.1")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    costs: dict[str, float] = {}
    for cost, name in re.findall(r"^\s*([\d,]+) \(.*?%\)\s+(?:\S*?:)?([^\n[']+)", listed, re.M):
        found = int(cost.replace(",", "")) / COUNTED / TURN
        costs[name.strip()] = costs.get(name.strip(), 0) + found
    # Functions still running at the end of the count are listed with all they called: the first of
    # them with all that its thread did. What other threads did in their lives is in the totals too.
    total = costs[TOTAL] = costs.get("main", costs[TOTAL])
    costs.pop("clone", None)
    return {name: cost for name, cost in costs.items() if cost < total * 0.9 or name == TOTAL}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, default="single")
    parser.add_argument("--functions", type=int, default=0, help="also show so many C functions")
    parser.add_argument("--time", action="store_true", help="time it instead, without valgrind")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        asyncio.run(checks(arguments.kind, timed=False))
        os._exit(0)
    if arguments.time:
        asyncio.run(checks(arguments.kind, timed=True))
        return
    with tempfile.TemporaryDirectory() as name:
        costs = count(arguments.kind, Path(name))
    print(f"{costs.pop(TOTAL):,.0f} instructions a check")
    for each in sorted(costs, key=costs.__getitem__, reverse=True)[: arguments.functions]:
        print(f"{costs[each]:9,.0f}  {each}")


if __name__ == "__main__":
    main()
