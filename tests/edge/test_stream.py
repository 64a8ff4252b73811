"""The event stream, for SDKs and for OFREP web providers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huidu.wire.access import KeyKind
from tests.edge.running import CLIENT, INGEST, SERVER, Running, Store, flags, read
from tests.waiting import wait_for


@contextmanager
def listening(edge: Running, path: str, *lines: str) -> Iterator[socket.socket]:
    with edge.connect() as connection:
        head = [f"GET {path} HTTP/1.1", "Host: edge", *lines, "", ""]
        connection.sendall("\r\n".join(head).encode())
        yield connection


def event(connection: socket.socket, got: bytes = b"") -> tuple[dict[str, str], dict[str, Any]]:
    """The next event: its fields, and its data."""
    text = read(connection, lambda more: b"data: " in got + more and (got + more).endswith(b"\n\n"))
    block = next(each for each in (got + text).decode().split("\n\n") if "data: " in each)
    fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
    return fields, json.loads(fields["data"])


def target(edge: Running, *, key: str = CLIENT) -> str:
    (stream,) = edge.bulk("ada", key=key).json["eventStreams"]
    assert stream["type"] == "sse"
    return str(stream["endpoint"]["requestUri"])


def test_an_sdk_hears_of_each_snapshot(own_store: Store, own_edge: Running) -> None:
    with listening(own_edge, "/events/v1/stream", f"Authorization: Bearer {SERVER}") as stream:
        fields, data = event(stream)
        assert (fields["event"], data["sequence"]) == ("snapshot", own_store.sequence)
        assert data["type"] == "snapshot"
        own_store.publish(flags())
        fields, data = event(stream)
        assert (fields["id"], data["sequence"]) == (str(own_store.sequence), own_store.sequence)
        assert own_edge.see("weilidai", "ada").json["snapshot"] == data["version"]


def test_a_web_provider_is_told_to_evaluate_again(own_store: Store, own_edge: Running) -> None:
    with listening(own_edge, target(own_edge), "Last-Event-ID: 1") as stream:
        head = read(stream, lambda got: b"retry: " in got)
        assert b"200 OK" in head
        assert b"content-type: text/event-stream" in head
        assert b"access-control-allow-origin: *" in head
        own_store.publish(flags())
        fields, data = event(stream)
        assert fields["event"] == "message"
        assert data["type"] == "refetchEvaluation"
        assert isinstance(data["lastModified"], int)


def test_who_missed_a_snapshot_hears_of_it_on_return(own_store: Store, own_edge: Running) -> None:
    path = target(own_edge)
    own_store.publish(flags())
    wait_for(lambda: f"sequence={own_store.sequence}" in own_edge.words())
    with listening(own_edge, path, "Last-Event-ID: 1") as stream:
        fields, _ = event(stream)
        assert fields["id"] == str(own_store.sequence)


def test_a_providers_address_rests_for_hours(edge: Running) -> None:
    wait_for(lambda: target(edge) == target(edge))  # but for the moment it changes in
    assert target(edge) != target(edge, key=SERVER)


def test_forged_and_foreign_tokens_are_refused(edge: Running) -> None:
    good = target(edge)
    claim, _, _ = good.rpartition(".")
    forged = [good[:-1], claim + "." + "0" * 32, good.replace("production", "staging")]
    forged += ["/events/v1/stream?token=", "/events/v1/stream?token=a.b.c.d", "/events/v1/stream"]
    for path in forged:
        assert edge.ask("GET", path).status == 401
    assert edge.ask("GET", "/events/v1/stream", headers={"X-API-Key": INGEST}).status == 403


def test_a_revoked_key_loses_its_stream(own_store: Store, own_edge: Running) -> None:
    path = target(own_edge)
    with listening(own_edge, path) as stream:
        read(stream, lambda got: b"retry: " in got)
        own_store.admit([kind for kind in KeyKind if kind is not KeyKind.CLIENT])
        assert read(stream, lambda _: False) is not None  # to the end
    assert own_edge.ask("GET", path).status == 401


def test_a_thousand_listeners_hear_at_once(own_store: Store, own_edge: Running) -> None:
    streams = []
    request = f"GET /events/v1/stream HTTP/1.1\r\nX-API-Key: {SERVER}\r\n\r\n"
    try:
        for _ in range(1_000):
            stream = own_edge.connect()
            stream.sendall(request.encode())
            streams.append(stream)
        for stream in streams:
            event(stream)
        own_store.publish(flags())
        assert {event(stream)[1]["sequence"] for stream in streams} == {own_store.sequence}
    finally:
        for stream in streams:
            stream.close()
    metrics = "huidu_stream_listeners 0.0"
    wait_for(lambda: metrics in own_edge.ask("GET", "/metrics").body.decode())
