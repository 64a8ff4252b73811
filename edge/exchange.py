"""A place in the order in which a connection's answers leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge.http import headless

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from edge.connection import Connection


class Turn:
    """One response to be. `ready` is the whole of it, once there is one.

    Whether the connection ends with it (`closes`) and whether only its headers leave (`bodiless`)
    say those who derive.
    """

    __slots__ = ("connection", "ready")

    connection: Connection
    ready: bytes | None
    closes: bool
    bodiless: bool

    def finish(self, response: bytes) -> None:
        """Set the response; it leaves as soon as all before it have left."""
        self.ready = headless(response) if self.bodiless else response
        connection = self.connection
        queue = connection.queue
        if len(queue) == 1 and not (self.closes or connection.stopping):
            # Nearly always. uvloop writes at the end of its turn, after the other answers of this
            # turn were made: their clients are awake then, and a wake-up costs as much as a check.
            queue.clear()
            connection.transport.write(self.ready)
        elif queue and queue[0] is self:
            connection.edge.write_soon(connection)

    streams = False
    """Whether more is to follow the response, from `sent` on."""

    def sent(self) -> None:
        """Called when the response was written, if it `streams`."""


class Exchange(Turn):
    """A response that is known, or will be when its own questions are answered."""

    __slots__ = ("bodiless", "closes")

    def __init__(
        self, connection: Connection, ready: bytes | None = None, *, closes: bool = False
    ) -> None:
        self.connection = connection
        self.ready = ready
        self.closes = closes
        self.bodiless = False


class Handed(Exchange):
    """A request for the ASGI application behind, which writes its response itself."""

    __slots__ = ("app", "cycle", "started")

    def __init__(self, connection: Connection, cycle: RequestResponseCycle, app: Any) -> None:
        super().__init__(connection)
        self.cycle = cycle
        self.app = app
        self.started = False
