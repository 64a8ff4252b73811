"""A connection to Redis for the event loop: hiredis reads, writes are gathered, nobody awaits.

redis-py's asyncio client takes a connection, a lock and a future per command. A check has some
ten microseconds, so here commands of many checks share one connection and one write, and replies
are handed to callbacks in order.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis
import msgspec

from huidu.errors import InputError

logger = logging.getLogger("huidu.edge")

Reply = Any
Waiter = Callable[[Reply], None]
Handle = Callable[[Callable[[], Reply], deque[Waiter]], None]
"""Hands replies to those who wait for them. The first argument gives the next reply, False when
there is none yet."""

CONNECT_SECONDS: Final = 2.0
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 2.0


class Unavailable(Exception):  # noqa: N818 - an answer callers handle, named as it is spoken of
    """Redis did not answer: no connection, lost, or too slow."""


UNAVAILABLE: Final = Unavailable("Redis does not answer")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a Redis is: a host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 6379
    path: str = ""
    username: str = ""
    password: str = ""
    database: int = 0
    tls: bool = False
    verify: bool = True


def address(url: str) -> Address:
    """Read ``redis://[[user]:password@]host[:port][/db]``, ``rediss://...`` or
    ``unix://[[user]:password@]/path[?db=n]``.

    Raises:
        InputError: another scheme, or a database that is not a number.
    """
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    database = (query.get("db") or query.get("virtual_host") or [""])[0]
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    try:
        if parts.scheme == "unix":
            return Address(
                path=unquote(parts.path),
                database=int(database or 0),
                username=username,
                password=password,
            )
        if parts.scheme in ("redis", "rediss"):
            return Address(
                host=parts.hostname or "localhost",
                port=parts.port or 6379,
                database=int(database or parts.path.strip("/") or 0),
                tls=parts.scheme == "rediss",
                verify=(query.get("ssl_cert_reqs") or ["required"])[0] != "none",
                username=username,
                password=password,
            )
    except ValueError as error:
        raise InputError(f"expected whole numbers for port and database: {error}") from error
    raise InputError(
        f"expected redis://, rediss:// or unix://, got {parts.scheme}://", path="REDIS_URL"
    )


def _tls(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def pack(*words: str | bytes | int) -> bytes:
    """A command as Redis reads it."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub errs
    return packed


class Link(asyncio.Protocol):
    """One connection that is made again, with growing pauses, whenever it is lost.

    Args:
        connected: called after each (re)connection, before waiting commands of others.
        pushed: gets pub/sub messages; without it a message counts as a reply.
        woken: called before replies are handed out.
        handle: hands replies out, instead of calling those who wait one by one.
    """

    def __init__(
        self,
        where: Address,
        *,
        name: str,
        connected: Callable[[], None] | None = None,
        pushed: Callable[[list[Any]], None] | None = None,
        woken: Callable[[], None] | None = None,
        handle: Handle | None = None,
    ) -> None:
        self.where = where
        self.name = name
        self.alive = False
        self._connected = connected
        self._pushed = pushed
        self._woken = woken
        self._handle = handle
        self._transport: asyncio.WriteTransport | None = None
        self._reader = hiredis.Reader()
        self.waiters: deque[Waiter] = deque()
        """Who is owed a reply, in order."""
        self._unsent: list[bytes] = []
        """Packed commands that leave with this turn of the loop."""
        self._task: asyncio.Task[None] | None = None
        self._lost: asyncio.Event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    # Life

    def start(self) -> None:
        """Connect in the background, and keep connecting."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._stay_connected(), name=f"redis-{self.name}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.drop()

    def drop(self) -> None:
        """Give this connection up at once; those who wait get `UNAVAILABLE`."""
        if self._transport is not None:
            self._transport.abort()
        self._fail_all()

    async def _stay_connected(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await asyncio.wait_for(self._connect(), CONNECT_SECONDS)
            except (OSError, TimeoutError, Unavailable, ssl.SSLError) as error:
                self.drop()
                if pause == FIRST_PAUSE_SECONDS:
                    logger.warning("edge.redis_unreachable link=%s error=%s", self.name, error)
            else:
                logger.info("edge.redis_connected link=%s", self.name)
                pause = FIRST_PAUSE_SECONDS
                await self._lost.wait()
                logger.warning("edge.redis_lost link=%s", self.name)
            # Many processes lose one Redis at the same moment: they must not return in step.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _connect(self) -> None:
        assert self._loop is not None
        self._lost.clear()
        where = self.where
        if where.path:
            await self._loop.create_unix_connection(lambda: self, where.path)
        else:
            context = _tls(where.verify) if where.tls else None
            await self._loop.create_connection(lambda: self, where.host, where.port, ssl=context)
        if where.password:
            who = [where.username] if where.username else []
            await self._introduce("AUTH", *who, where.password)
        if where.database:
            await self._introduce("SELECT", str(where.database))
        # A listener that still loads its data, or a stalled one, accepts but does not answer.
        await self._introduce("PING")
        self.alive = True
        if self._connected is not None:
            self._connected()

    async def _introduce(self, *command: str) -> None:
        assert self._loop is not None
        answered: asyncio.Future[Reply] = self._loop.create_future()

        def settle(reply: Reply) -> None:
            if not answered.done():
                answered.set_result(reply)

        self.send(pack(*command), settle, introducing=True)
        reply = await answered
        if isinstance(reply, Exception):
            raise Unavailable(f"{command[0]}: {reply}")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._reader = hiredis.Reader()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail_all()
        self._lost.set()

    def data_received(self, data: bytes) -> None:
        if self._woken is not None:
            self._woken()
        reader, waiters = self._reader, self.waiters
        try:
            reader.feed(data)
            if self._handle is not None:
                self._handle(reader.gets, waiters)
                return
            while (reply := reader.gets()) is not False:
                if type(reply) is list and self._pushed is not None and reply[0] in _PUSHES:
                    self._pushed(reply)
                elif waiters:
                    waiters.popleft()(reply)
        except hiredis.ProtocolError:
            logger.exception("edge.redis_nonsense link=%s", self.name)
            self.drop()

    # Commands

    def send(self, command: bytes, waiter: Waiter, *, introducing: bool = False) -> None:
        """Send a packed command; `waiter` gets the reply, an error Redis sent, or `UNAVAILABLE`.

        The waiter may be called before this returns (when there is no connection).
        """
        if self._transport is None or not (self.alive or introducing):
            waiter(UNAVAILABLE)
            return
        self.waiters.append(waiter)
        if not self._unsent:
            assert self._loop is not None
            self._loop.call_soon(self._flush)
        self._unsent.append(command)

    async def command(self, *words: str | bytes | int) -> Reply:
        """Send a command and wait for its reply.

        Raises:
            Unavailable: no answer, or an error of Redis.
        """
        assert self._loop is not None
        answered: asyncio.Future[Reply] = self._loop.create_future()

        def settle(reply: Reply) -> None:
            if not answered.done():
                answered.set_result(reply)

        self.send(pack(*words), settle)
        reply = await answered
        if isinstance(reply, Exception):
            raise Unavailable(f"{words[0]!r}: {reply}")
        return reply

    def push(self, *words: str | bytes) -> None:
        """Send a command whose answer comes as a push message, such as SUBSCRIBE."""
        self.write(pack(*words))

    def write(self, commands: bytes) -> None:
        """Send packed commands, for whose replies `waiters` have been appended already."""
        if self._transport is not None:
            self._transport.write(commands)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent:
            self.write(b"".join(unsent))

    def _fail_all(self) -> None:
        self.alive = False
        self._unsent.clear()
        waiters = list(self.waiters)
        self.waiters.clear()
        if waiters and self._woken is not None:
            self._woken()
        for waiter in waiters:
            waiter(UNAVAILABLE)


_PUSHES: Final = frozenset({b"message", b"subscribe", b"unsubscribe"})
