"""The least a check over HTTP can be: a floor for `bench/edge.py`, not a server for anybody.

    python bench/prototype.py --port 9464 --socket /path/redis.sock      (as bench/edge.py runs it)

A uvicorn HTTP protocol that answers before ASGI. It takes every request for a whole check, reads
its targeting key, reads that user's record over one connection to Redis shared by all, and looks at
one bit of it. It knows no keys, flags, rules, other facts, admissions, counts, decision ids,
deadlines or order of answers. With `--constant` it answers without even looking at the request,
which is what uvloop and the kernel alone cost.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import deque
from pathlib import Path
from typing import Any

import hiredis
import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from xxhash import xxh3_128_digest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from edge.profiles import Commands  # noqa: E402
from huidu.wire.profile import spread  # noqa: E402

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
TEXTS = [
    b'{"key":"weilidai","value":%b,"reason":"TARGETING_MATCH","variant":"on"}' % value
    for value in (b"false", b"true")
]
HIDDEN, SHOWN = (HEAD % len(text) + text for text in TEXTS)


class Request(msgspec.Struct):
    context: dict[str, Any]


read = msgspec.json.Decoder(Request).decode


class Constant(HttpToolsProtocol):
    """Answers whatever comes."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(SHOWN)


class Redis(asyncio.Protocol):
    """One connection; the commands of a turn of the loop leave together."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self.reader = hiredis.Reader()
        self.waiting: deque[Any] = deque()
        self.unsent: list[bytes] = []
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self) -> None:
        self.unsent.append(b"")
        self.transport.write(b"\r\n".join(self.unsent))
        self.unsent.clear()

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        gets, take = self.reader.gets, self.waiting.popleft
        while (record := gets()) is not False:
            try:  # for nothing, where `suppress` costs two calls
                take().write(SHOWN if record and record[1] & 1 else HIDDEN)
            except RuntimeError:  # a client that left would end the connection to Redis
                continue


class Prototype(HttpToolsProtocol):
    """Answers every request as if it were a check."""

    redis: Redis

    def data_received(self, data: bytes) -> None:
        redis = self.redis
        context = read(data[data.find(b"\r\n\r\n") + 4 :]).context
        bucket, field = spread(xxh3_128_digest(context["targetingKey"].encode()))
        redis.waiting.append(self.transport)
        if not redis.unsent:
            redis.loop.call_soon(redis.send)
        redis.unsent.append(redis.commands[bucket & redis.commands.mask] + field)


async def nothing(*_: Any) -> None:
    """The application behind, which nobody reaches."""


async def serve(port: int, socket: str, buckets: int) -> None:
    if socket:
        loop = asyncio.get_running_loop()
        redis = Redis(Commands(buckets))
        Prototype.redis = redis
        await loop.create_unix_connection(lambda: redis, socket)
    http = Prototype if socket else Constant
    options: dict[str, Any] = {"http": http, "access_log": False, "log_level": "warning"}
    config = uvicorn.Config(nothing, port=port, lifespan="off", loop="uvloop", **options)
    await uvicorn.Server(config).serve()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--socket", default="", help="Redis's; without it every answer is the same")
    parser.add_argument("--buckets", type=int, default=1, help="hashes of profiles in Redis")
    arguments = parser.parse_args()
    import uvloop

    uvloop.run(serve(arguments.port, arguments.socket, arguments.buckets))


if __name__ == "__main__":
    main()
