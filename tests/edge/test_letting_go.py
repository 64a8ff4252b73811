"""No connection keeps a snapshot that was replaced, whatever it is doing or has ended in."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge import serve
from edge.serve import Config, Server
from edge.settings import Settings
from tests.edge.running import ENVIRONMENT, SERVER, Store, bearer, flags
from tests.waiting import PATIENCE

BODY = json.dumps({"context": {"targetingKey": "ada"}}).encode()
WAYS = {
    "one flag": ("POST", "/ofrep/v1/evaluate/flags/weilidai", BODY),
    "all flags": ("POST", "/ofrep/v1/evaluate/flags", BODY),
    "visibility": ("GET", "/api/v1/flags/weilidai/users/ada", b""),
    "refused": ("POST", "/ofrep/v1/evaluate/flags/weilidai", b"{"),
    "events": ("GET", "/api/v1/events", b""),
}


@pytest.fixture
async def server(
    own_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Server]:
    """A check server in this process."""
    monkeypatch.setattr(serve, "_settle_memory", lambda: None)  # pytest's is not ours to settle
    settings = Settings(
        home=tmp_path, environment=ENVIRONMENT, day_zone="Asia/Shanghai", redis_url=own_store.url
    )
    made = Server(Config(settings=settings, host="127.0.0.1", port=0, loop="asyncio"))
    running = asyncio.create_task(made.serve())
    async with asyncio.timeout(PATIENCE):
        while not (made.started and made.config.edge.state.ready):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    yield made
    made.should_exit = True
    await running


def port_of(server: Server) -> int:
    number: int = server.servers[0].sockets[0].getsockname()[1]
    return number


async def asked(server: Server, way: str, times: int = 2) -> asyncio.StreamWriter:
    """A connection on which something was asked and answered."""
    method, path, body = WAYS[way]
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
    headers = "".join(f"{name}: {value}\r\n" for name, value in bearer(SERVER).items())
    for _ in range(1 if way == "events" else times):
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        await reader.readuntil(b"\r\n\r\n")
        await reader.read(1 << 16)
    return writer


async def test_what_was_replaced_is_let_go_without_the_garbage_collector(
    server: Server, own_store: Store
):
    gc.collect()
    gc.disable()
    try:
        state = server.config.edge.state
        replaced: list[weakref.ref[object]] = []
        for round_ in range(2):
            assert state.world is not None
            replaced.append(weakref.ref(state.world))
            kept = [await asked(server, way) for way in WAYS]
            for way in WAYS:
                ended = await asked(server, way)
                if way == "one flag":
                    ended.transport.abort()
                ended.close()
            replaced += map(weakref.ref, state.world.rendered_by_id.values())
            assert server.config.edge.metrics.uncounted
            own_store.publish(flags()[: 2 + round_])
            async with asyncio.timeout(PATIENCE):
                while any(each() is not None for each in replaced):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            for each in kept:
                each.close()
        metrics = server.config.edge.metrics
        metrics.add_up()
        shown = sum(given for (flag, _), [given] in metrics.answers.items() if flag == "weilidai")
        assert shown == 2 * 2 * 2 * 3  # rounds, connections, times, ways
    finally:
        gc.enable()
