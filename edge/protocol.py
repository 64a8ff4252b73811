"""HTTP: checks are answered here, before a request becomes an ASGI scope and a task.

`HuiduProtocol` is uvicorn's httptools protocol. Requests for checks go to `edge.checks`, all others
on to the application, and `edge.connection` keeps their answers in order.

A client repeats its header block byte by byte. Once the parser has read one, and found a plain
HTTP/1.1 request in it, its meaning is remembered, and the same bytes need not be parsed again. What
is not known that way (split over packets, chunked, pipelined, new) goes through the parser.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

import httptools

from edge import platform
from edge.checks import Check, refusal
from edge.connection import MOST_QUEUED, Connection
from edge.exchange import Exchange
from edge.http import CONTINUE, CORS, PREFLIGHT
from edge.quick import ask
from edge.requests import CHECKS, METHODS, Head, Kind, Plan, Route, route_of
from edge.streaming import listen
from huidu import reasons
from huidu.wire import visibility

if TYPE_CHECKING:
    from uvicorn.server import ServerState

    from edge.serve import Config

MOST_BODY: Final = 1024 * 1024
MOST_HEADER_BYTES: Final = 64 * 1024
MOST_URL_BYTES: Final = 256 * 1024
HEAD_SECONDS: Final = 30
"""How long a client may take for a request's headers, or for the body of a check."""
IDLE_SECONDS: Final = 75

_PLAIN_VISIBILITY: Final = re.compile(
    rb"GET /api/v1/flags/([A-Za-z0-9._~-]+)/users/([A-Za-z0-9._~@:=,-]+) HTTP/1\.1"
)


class HuiduProtocol(Connection):
    """The reading half of one connection: what uvicorn makes for each client."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.began = self.edge.tick
        self._route: Route | None = None
        self._head: Head | None = None
        self._body = bytearray()
        self._handed = self._offered = False
        self._header_bytes = 0
        self._messages = 0
        self._plain = False

    # Reading

    def data_received(self, data: bytes) -> None:
        self.quiet = 0
        plan = self.usual
        if (
            plan is not None
            and len(data) == plan.size
            and not self.queue
            and plan.generation == self.edge.state.generation
            and ask(self, plan, data)
        ):
            return
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        """Read whatever came."""
        self.usual = None
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        edge = self.edge
        if self.mid_message:
            self._parse(data)
            return
        if self.deaf:
            return
        end = data.find(b"\r\n\r\n")
        plan = edge.state.plans.get(data[:end]) or self._plan_by_lines(data, end)
        if plan is not None and len(data) - end == plan.more and not self.stopping:
            if plan.quick:
                self.usual = plan
                if not self.queue and ask(self, plan, data):
                    return
            self._check(plan, data[end + 4 :])
            return
        self._messages = 0
        self._plain = False
        self._parse(data)
        if self._messages == 1 and self._plain and not self.mid_message:
            self._remember(data)

    def _plan_by_lines(self, data: bytes, end: int) -> Plan | None:
        """The plan of a visibility request whose header lines are known: its first is all new."""
        line_end = data.find(b"\r\n")
        head = self.edge.state.heads.get(data[line_end:end])
        if head is None:
            return None
        plain = _PLAIN_VISIBILITY.fullmatch(data, 0, line_end)
        if plain is None:
            return None
        flag, user = plain.groups()
        return Plan(self.edge, Route(Kind.VISIBILITY, flag.decode(), user.decode()), head)

    def _remember(self, data: bytes) -> None:
        """Remember what the parser found in a whole, plain request that `data` is exactly."""
        head, route, state = self._head, self._route, self.edge.state
        assert head is not None
        end = data.find(b"\r\n\r\n")
        # Strangers teach nothing, or they could wash out what is remembered for others.
        if head.key is None or route is None or len(data) != end + 4 + head.length:
            return
        if head.generation != state.generation:
            return
        if route.kind is Kind.VISIBILITY:
            state.remember(state.heads, data[data.find(b"\r\n") : end], head)
        else:
            plan = Plan(self.edge, route, head).remembered(data, end + 4)
            state.remember(state.plans, data[:end], plan)

    def _parse(self, data: bytes) -> None:
        if self.deaf:
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._offered:
                self._parse(self._without_offer() + data[upgrade.args[0] :])
            else:
                self.handle_websocket_upgrade()
        except (httptools.HttpParserError, UnicodeDecodeError):
            self.send_400_response("Invalid HTTP request received.")

    def _without_offer(self) -> bytes:
        """The head of a request without its offer to upgrade, for a new parser.

        Java's client offers h2c with its first request, and the parser would then take the body
        for the other protocol's.
        """
        method = self.parser.get_method()
        self.parser = httptools.HttpRequestParser(self)
        lines = [
            b"%b: %b\r\n" % (name, value)
            for name, value in self.headers
            if name not in (b"connection", b"upgrade", b"http2-settings")
        ]
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self.url, b"".join(lines))

    def send_400_response(self, msg: str) -> None:
        self._refuse_and_close(400, "http.invalid", msg)

    def _refuse_and_close(self, status: int, code: str, message: str) -> None:
        """Refuse what cannot even be read as a request, after the answers that are still due."""
        self.deaf = True
        self.mid_message = False
        body = visibility.error(code, message)
        self.place(Exchange(self, self.ready_edge.responses.make(status, body, CORS), closes=True))

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.mid_message = True
        self._messages += 1
        self._header_bytes = 0
        self._route = self._head = None
        self._handed = self._offered = False
        self.began = self.edge.tick

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MOST_URL_BYTES and not self.deaf:
            self._refuse_and_close(414, "http.url_too_long", "the address is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MOST_HEADER_BYTES and not self.deaf:
            self._refuse_and_close(431, "http.headers_too_long", "the headers are too long")

    def on_headers_complete(self) -> None:
        if self.deaf:
            return
        self._route = route = route_of(_origin_form(self.url))
        if self.parser.should_upgrade() and not (route is None and self._should_upgrade()):
            self._offered = True
            return
        if route is None:
            self._hand_on()
            return
        plain = self.parser.get_http_version() == "1.1" and self.parser.should_keep_alive()
        self._head = head = Head(self.edge.state, self.headers, keep_alive=plain)
        if (
            route.kind is Kind.SNAPSHOT
            and self.config.in_front
            and not platform.snapshot_is_here(head)
        ):
            self._route = None
            self._hand_on()
            return
        self._plain = plain and not (
            self.expect_100_continue
            or any(name == b"transfer-encoding" for name, _ in self.headers)
        )
        self._body.clear()
        if head.length > MOST_BODY:
            self._too_large(route)
        elif self.expect_100_continue:
            self.place(Exchange(self, CONTINUE))

    def _hand_on(self) -> None:
        """Let the application behind have this request."""
        self._handed = True
        self.cycle = None  # type: ignore[assignment]  # the queue, not uvicorn, keeps the order
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self.deaf or self._offered:
            return
        if self._route is None:
            super().on_body(body)
            return
        self._body += body
        if len(self._body) > MOST_BODY:
            self._too_large(self._route)

    def on_message_complete(self) -> None:
        if self.deaf or self._offered:
            return
        self.mid_message = False
        if self._route is None:
            super().on_message_complete()
            return
        assert self._head is not None
        self._dispatch(self.parser.get_method(), self._route, self._head, bytes(self._body))

    def _too_large(self, route: Route) -> None:
        self.deaf = True
        self.mid_message = False
        details = f"expected at most {MOST_BODY} bytes"
        response = refusal(self.ready_edge, route, 413, reasons.GENERAL, details)
        self.place(Exchange(self, response, closes=True))

    # Answering

    def _dispatch(self, method: bytes, route: Route, head: Head, body: bytes) -> None:
        allowed = METHODS[route.kind]
        if method in allowed:
            bodiless = method == b"HEAD"
            if route.kind in CHECKS:
                self._check(Plan(self.edge, route, head, bodiless=bodiless), body)
                return
            self._plain = False  # not a check, so never answered from memory
            if route.kind is Kind.STREAM:
                self.place(listen(self, route, head))
            elif route.kind is Kind.SNAPSHOT:
                self.place(platform.snapshot(self, head, bodiless=bodiless))
            else:
                packed = platform.Packed(self, head, bodiless=bodiless)
                self.place(packed)
                packed.run(route, head)
            return
        self._plain = False
        methods = b", ".join(allowed)
        if method == b"OPTIONS":
            response = self.ready_edge.responses.make(204, headers=PREFLIGHT % methods)
        else:
            allow = b"allow: %b, OPTIONS\r\n" % methods
            details = f"expected {methods.decode()}, got {method.decode('latin-1')}"
            response = refusal(self.ready_edge, route, 405, reasons.GENERAL, details, allow)
        self.place(Exchange(self, response, closes=not head.keep_alive))

    def _check(self, plan: Plan, body: bytes) -> None:
        check = Check()
        check.connection = self
        check.plan = plan
        check.ready = None
        self.queue.append(check)
        check.run(body)
        if len(self.queue) > MOST_QUEUED:
            self.flow.pause_reading()

    def forget(self) -> None:
        super().forget()
        self._route = self._head = None

    def close_if_idle(self, tick: int) -> None:
        """Called each second: end a connection nobody uses, or whose request only trickles in."""
        if self.listening or self.queue:
            if self.listening and self._head is not None:
                self.forget()
            return
        self.quiet += 1
        if self.quiet == 1 and not self.mid_message:
            self.forget()
        if self.mid_message:
            if not self._handed and tick - self.began > HEAD_SECONDS:
                self.transport.abort()
        elif self.quiet > IDLE_SECONDS:
            self.transport.close()


def _origin_form(url: bytes) -> bytes:
    """The path and query of a target; proxies may send the absolute form (RFC 9112, 3.2.2)."""
    if url[:1] == b"/":
        return url
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        return url
    path: bytes = parsed.path or b"/"
    return path if parsed.query is None else path + b"?" + parsed.query
