"""A connection whose answers leave in the order of its requests, whoever makes them.

uvicorn keeps requests for the application in order among themselves. Checks are answered outside of
it, so every request takes its place in one queue here, and the application gets its turn from it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from edge.checks import Check, QuickCheck
from edge.exchange import Handed, Turn
from edge.http import closing

if TYPE_CHECKING:
    from uvicorn.server import ServerState

    from edge.requests import Plan
    from edge.serve import Config
    from edge.server import Edge

MOST_QUEUED: Final = 64
"""Pipelined requests of one connection that may wait; then reading pauses."""

LINGER_SECONDS: Final = 2.0
LAST_ANSWER_SECONDS: Final = 10.0
"""By then nobody looks any more for the connection of a check that was asked before it was lost."""


class Connection(HttpToolsProtocol):
    """The answering half of one connection; `edge.protocol` is the reading half.

    Attributes:
        queue: what is still to be answered, oldest first.
        listening: the connection has become an event stream.
        stopping: the server shuts down; the last answer due is the connection's last.
        usual: what the last request's head meant, where the next is answered quickly if it begins
            with the same bytes (`edge.quick`); None while anything is out of the ordinary.
        quiet: seconds since bytes last came.
        deaf: what still comes is dropped, because the connection is about to end.
        mid_message: the parser is within a request.
        quick_check: serves for every check that `edge.quick` asks for, one after the other.
    """

    # uvicorn's class has so many attributes that Python stores them the slow way.
    __slots__ = ("edge", "queue", "quick_check", "quiet", "stopping", "transport", "usual")

    config: Config

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.edge: Edge = config.edge
        self.queue: deque[Turn] = deque()
        self.listening = False
        self.by_token = False
        self.stopping = False
        self.deaf = False
        self.mid_message = False
        self.usual: Plan | None = None
        self.quiet = 0
        self.quick_check = QuickCheck()
        self.quick_check.connection = self

    @property
    def ready_edge(self) -> Edge:
        """The edge, its responses dated this second."""
        self.edge.responses.refresh(self.server_state.default_headers)
        return self.edge

    def place(self, exchange: Turn) -> None:
        """Give an exchange its place behind all that came before."""
        queue = self.queue
        queue.append(exchange)
        if queue[0] is exchange:
            self.flush()
        elif len(queue) > MOST_QUEUED:
            self.flow.pause_reading()

    def flush(self) -> None:
        """Write every answer that is next in order."""
        queue = self.queue
        if len(queue) == 1 and not self.stopping:  # nearly always
            only = queue[0]
            if type(only) is Check and not only.closes:
                if only.ready is not None:
                    queue.popleft()
                    self.server_state.total_requests += 1
                    self.transport.write(only.ready)
                return
        written: list[bytes] = []
        while queue:
            first = queue[0]
            if isinstance(first, Handed):
                if not first.started:
                    first.started = True
                    self.transport.write(b"".join(written))
                    written.clear()
                    super()._start_asgi_task(first.cycle, first.app)
                break
            if first.ready is None:
                break
            queue.popleft()
            self.server_state.total_requests += 1
            if first.closes or (self.stopping and not queue and not self.mid_message):
                written.append(closing(first.ready))
                queue.clear()
                self.transport.write(b"".join(written))
                self.end()
                return
            written.append(first.ready)
            if first.streams:
                self.transport.write(b"".join(written))
                written.clear()
                first.sent()
        if written and not self.transport.is_closing():
            self.transport.write(b"".join(written))
        if len(queue) <= MOST_QUEUED and not self.flow.write_paused:
            self.flow.resume_reading()

    def end(self) -> None:
        """End the connection so that the last answer arrives.

        Closing while the client still sends would make the kernel answer with a reset, which
        destroys what the client has not read yet. So only our half is closed at first.
        """
        self.deaf = True
        self.usual = None
        transport = self.transport
        if transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()
            self.loop.call_later(LINGER_SECONDS, transport.close)
        else:
            transport.close()

    # The application behind

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.place(Handed(self, cycle, app))

    def on_response_complete(self) -> None:
        if self.queue and isinstance(self.queue[0], Handed):
            self.queue.popleft()
        self.usual = None  # uvicorn may start a timer now, which the next request must stop
        super().on_response_complete()
        if self.queue:
            self._unset_keepalive_if_required()
            self.flush()
        elif self.stopping and not self.mid_message:
            self.transport.close()

    # Life

    def forget(self) -> None:
        """Let go of what the last check was made of, while nothing is to be answered: it would
        keep the flags of its day."""
        self.usual = None
        self.quick_check.plan = None  # type: ignore[assignment]  # set by whoever asks next

    def dissolve(self) -> None:
        """Hold nothing any more, above all not itself: the garbage collector comes rarely."""
        self.forget()
        del self.quick_check.connection
        self.cycle = None  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        waits = bool(self.queue)
        for exchange in self.queue:
            if isinstance(exchange, Handed):
                exchange.cycle.disconnected = True
                exchange.cycle.message_event.set()
        self.queue.clear()
        self.deaf = True
        self.usual = None
        if self.listening:
            self.edge.listeners.discard(self)
        super().connection_lost(exc)
        if waits:
            self.loop.call_later(LAST_ANSWER_SECONDS, self.dissolve)
        else:
            self.dissolve()

    def pause_writing(self) -> None:
        """The client does not read its answers: stop reading its requests."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if len(self.queue) <= MOST_QUEUED:
            self.flow.resume_reading()

    def shutdown(self) -> None:
        """Finish what was asked, then close. Streams end at once; their clients come back."""
        self.stopping = True
        self.usual = None
        if self.listening or (not self.queue and not self.mid_message):
            self.transport.close()
        for exchange in self.queue:
            if isinstance(exchange, Handed):
                exchange.cycle.keep_alive = False
