"""What a request asks for: its route and the few headers that matter, read once per distinct text.

A client repeats the same header block on every request of a connection, so what was concluded from
one is remembered by its bytes (see `edge.protocol`).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import msgspec

from edge.rights import Right
from edge.state import State
from edge.stream import STREAM
from huidu.model import MAX_ID_CHARACTERS, Flag
from huidu.wire.access import Key

if TYPE_CHECKING:
    from edge.answers import Rendered
    from edge.server import Edge
    from huidu.engine.writer import Check
    from huidu.wire.facts import Reader, Reading
    from huidu.wire.packed import PackedCheck

OFREP: Final = b"/ofrep/v1/evaluate/flags"
SNAPSHOT: Final = b"/api/v1/snapshot"
PROFILES: Final = b"/api/v1/profiles/"
PACKED: Final = b"/packed"
VISIBILITY: Final = b"/api/v1/flags/"

_ONLY_A_USER: Final = re.compile(
    rb'[ \t\r\n]*\{[ \t\r\n]*"context"[ \t\r\n]*:[ \t\r\n]*\{[ \t\r\n]*"targetingKey"[ \t\r\n]*:'
    rb'[ \t\r\n]*"([^"\\]+)"[ \t\r\n]*\}[ \t\r\n]*\}[ \t\r\n]*'
)

Headers = list[tuple[bytes, bytes]]


class Kind(enum.Enum):
    """What the check server answers by itself."""

    SINGLE = "single"
    BULK = "bulk"
    VISIBILITY = "visibility"
    STREAM = "stream"
    SNAPSHOT = "snapshot"
    PACKED = "packed"


CHECKS: Final = (Kind.SINGLE, Kind.BULK, Kind.VISIBILITY)
METHODS: Final = {
    Kind.SINGLE: (b"POST",),
    Kind.BULK: (b"POST",),
    Kind.VISIBILITY: (b"GET", b"HEAD"),
    Kind.STREAM: (b"GET",),
    Kind.SNAPSHOT: (b"GET", b"HEAD"),
    Kind.PACKED: (b"GET", b"HEAD"),
}


class Route(msgspec.Struct, frozen=True):
    """Where a request goes. `flag` and `user` are None where the path's text cannot be one."""

    kind: Kind
    flag: str | None = ""
    user: str | None = ""
    query: bytes = b""


def route_of(target: bytes) -> Route | None:
    """The route of a request target, or None when it is for the application behind."""
    path, _, query = target.partition(b"?")
    if path.startswith(OFREP):
        rest = path[len(OFREP) :]
        if not rest:
            return Route(Kind.BULK, query=query)
        if rest[:1] == b"/" and b"/" not in rest[1:]:
            return Route(Kind.SINGLE, flag=text_of(rest[1:]))
    elif path.startswith(VISIBILITY):
        parts = path[len(VISIBILITY) :].split(b"/")
        if len(parts) == 3 and parts[1] == b"users":
            return Route(Kind.VISIBILITY, flag=text_of(parts[0]), user=text_of(parts[2]))
    elif path == SNAPSHOT:
        return Route(Kind.SNAPSHOT)
    elif path.startswith(PROFILES) and path.endswith(PACKED):
        user = path[len(PROFILES) : -len(PACKED)]
        if b"/" not in user:
            return Route(Kind.PACKED, user=text_of(user))
    elif path == STREAM:
        return Route(Kind.STREAM, query=query)
    return None


def text_of(part: bytes) -> str | None:
    """A path segment's text; None when it is not UTF-8 or holds control characters."""
    try:
        text = unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text


_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")


class Plan:
    """What all requests with the same head have in common, worked out once.

    Attributes:
        more: bytes of a request from the blank line on.
        size: where a request ends, of a plan that is remembered.
        cut: cuts such a request into what all of them begin with (`text`: the head with the blank
            line, and the body as far as the user's id, if nothing else is in it), the id, and what
            follows it (`closing`). Where bodies say more, the second is the body, and nothing
            follows.
        quick: whether `edge.quick` may answer; what it needs follows.
    """

    __slots__ = (
        "bodiless",
        "closes",
        "closing",
        "commands",
        "cut",
        "edge",
        "evaluate",
        "flag",
        "generation",
        "head",
        "more",
        "needs_profile",
        "packed",
        "profiles",
        "quick",
        "readers",
        "reading",
        "rendered",
        "right",
        "route",
        "size",
        "text",
    )

    reading: Reading
    readers: list[Reader]
    packed: list[PackedCheck | None]
    evaluate: Check
    rendered: dict[int, Rendered]
    cut: Callable[[bytes], tuple[bytes, bytes, bytes]]

    def __init__(self, edge: Edge, route: Route, head: Head, *, bodiless: bool = False) -> None:
        self.edge = edge
        self.route = route
        self.head = head
        self.right = right = head.right
        self.more = head.length + 4
        self.closes = not head.keep_alive
        self.bodiless = bodiless
        self.flag: Flag | None = None
        self.needs_profile = True
        self.quick = False
        self.commands = edge.state.commands
        self.profiles = edge.profiles
        self.generation = head.generation
        self.text = self.closing = b""
        self.size = 0
        if right.refusal is not None:
            return
        if route.kind is Kind.BULK:
            self.reading = right.world.reading_for(right.key.kind)
            return
        self.flag = flag = right.flags.get(route.flag or "")
        self.needs_profile = flag is not None and flag.enabled and not flag.killed
        if flag is None or not self.needs_profile:
            return
        self.reading = right.world.reading_of(flag.key)
        self.readers = self.reading.by_first
        self.evaluate = right.world.compiled.check_of(flag.key)
        self.rendered = right.world.rendered_by_id

    def remembered(self, data: bytes, end: int) -> Plan:
        """The same plan, for whole requests that are like `data`, whose head ends at `end`."""
        self.size = len(data)
        begin, until = end, len(data)
        only = _ONLY_A_USER.fullmatch(data, end)
        if only and len(only[1]) <= MAX_ID_CHARACTERS:
            # Such bodies need not be read as JSON. Those of the same head are as long.
            begin, until = only.span(1)
        self.text, self.closing = data[:begin], data[until:]
        self.cut = Struct(f"{begin}s{until - begin}s{len(data) - until}s").unpack
        self.quick = (
            self.route.kind is Kind.SINGLE
            and self.right.refusal is None
            and self.needs_profile
            and not (self.flag and self.flag.receipts_ppm)
            and self.commands is not None
            and not self.closes
        )
        if self.quick and self.flag:
            self.packed = self.right.world.packed_of(self.flag.key)
        return self


class Head:
    """What the headers of a request said.

    `key` is the live key the caller showed; `named` tells "no key" from "no such key"; `right` is
    what follows from it, as long as `generation` is the state's.
    """

    __slots__ = (
        "generation",
        "if_none_match",
        "keep_alive",
        "key",
        "last_event",
        "length",
        "named",
        "right",
        "wants_json",
    )

    def __init__(self, state: State, headers: Headers, *, keep_alive: bool) -> None:
        self.generation = state.generation
        self.keep_alive = keep_alive
        self.length = 0
        self.if_none_match = b""
        self.last_event = b""
        self.named = False
        self.wants_json = False
        self.key: Key | None = None
        bearer = other = b""
        for name, value in headers:
            if name == b"authorization":
                scheme, _, token = value.partition(b" ")
                if scheme.lower() == b"bearer":
                    bearer = token.strip()
                self.named = True
            elif name == b"x-api-key":
                other = value.strip()
            elif name == b"content-length":
                self.length = int(value) if value.isdigit() else 0
            elif name == b"if-none-match":
                self.if_none_match = value
            elif name == b"accept":
                self.wants_json = b"application/json" in value
            elif name == b"last-event-id":
                self.last_event = value
        token = bearer or other
        if token:
            self.named = True
            self.key = state.key_of(token)
        self.right = Right(state, self.key, named=self.named)
