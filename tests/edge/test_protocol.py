"""HTTP itself: order, framing, limits, and the application behind."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import pytest

from tests.edge.running import SERVER, Running, Store, read

HOST = b"Host: edge\r\n"
KEY = f"Authorization: Bearer {SERVER}\r\n".encode()


def get(path: str, *, extra: bytes = b"", method: bytes = b"GET") -> bytes:
    return method + b" " + path.encode() + b" HTTP/1.1\r\n" + HOST + KEY + extra + b"\r\n"


def post(user: str, *, flag: str = "weilidai", extra: bytes = b"") -> bytes:
    body = json.dumps({"context": {"targetingKey": user}}).encode()
    head = f"POST /ofrep/v1/evaluate/flags/{flag} HTTP/1.1\r\n".encode() + HOST + KEY + extra
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def see(user: str) -> bytes:
    return get(f"/api/v1/flags/weilidai/users/{user}")


def answers(number: int):  # type: ignore[no-untyped-def]
    """Whether so many whole responses have come."""

    def enough(got: bytes) -> bool:
        return len(bodies(got)) >= number

    return enough


def bodies(got: bytes) -> list[bytes]:
    """The bodies of the whole responses in `got`."""
    found = []
    while b"\r\n\r\n" in got:
        head, _, got = got.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100"):
            continue
        length = re.search(rb"(?i)content-length: (\d+)", head)
        size = int(length[1]) if length else 0
        if len(got) < size:
            break
        found.append(got[:size])
        got = got[size:]
    return found


def users(got: bytes) -> list[str]:
    return [json.loads(body)["user"] for body in bodies(got)]


def test_pipelined_requests_are_answered_in_order(edge: Running) -> None:
    asked = [f"u{number}" for number in range(300)]
    got = edge.raw(b"".join(map(see, asked)), until=answers(300))
    assert users(got) == asked


def test_quick_answers_wait_for_slow_ones_before_them(edge: Running) -> None:
    # A killed flag needs no profile, so its answer is there before the read of the first returns.
    quick = get("/api/v1/flags/killed/users/second")
    unknown = get("/api/v1/flags/nope/users/third")
    live = get("/health/live")  # from the application behind
    got = edge.raw(see("first") + quick + unknown + live + see("last"), until=answers(5))
    first, second, third, fourth, fifth = map(json.loads, bodies(got))
    assert (first["user"], second["user"], fifth["user"]) == ("first", "second", "last")
    assert third["error"]["code"] == "flag.unknown"
    assert fourth == {"live": True}


def test_a_connection_stays_open_for_the_next_request(edge: Running) -> None:
    with edge.connect() as connection:
        for user in ("ada", "bob", "ada"):
            connection.sendall(see(user))
            assert users(read(connection, answers(1))) == [user]


def test_a_request_may_come_byte_by_byte(edge: Running) -> None:
    with edge.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post("ada"):
            connection.send(bytes([byte]))
        assert b'"value":true' in read(connection, answers(1))


def test_the_same_headers_with_another_length_are_read_afresh(edge: Running) -> None:
    with edge.connect() as connection:
        for user in ("ada", "a-much-longer-user", "ada", "bob", "eve"):
            connection.sendall(post(user))
            got = read(connection, answers(1))
            assert (b'"value":true' in got) == (user in ("ada", "bob"))


def test_a_known_head_with_a_body_still_to_come_waits_for_it(edge: Running) -> None:
    whole = post("ada")
    with edge.connect() as connection:
        connection.sendall(whole)
        read(connection, answers(1))
        connection.sendall(whole[:-10])
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(5)
        connection.sendall(whole[-10:] + whole)
        assert len(bodies(read(connection, answers(2)))) == 2


def test_a_chunked_body_is_read(edge: Running) -> None:
    body = b'{"context":{"targetingKey":"ada"}}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = b"POST /ofrep/v1/evaluate/flags/weilidai HTTP/1.1\r\n" + HOST + KEY
    sent = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    assert b'"value":true' in edge.raw(sent + see("ada"), until=answers(2))


def test_a_chunked_body_beyond_the_limit_is_refused(edge: Running) -> None:
    head = b"POST /ofrep/v1/evaluate/flags HTTP/1.1\r\n" + HOST + KEY
    sent = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"200000\r\n" + b" " * 0x200000
    got = edge.raw(sent, until=answers(1))
    assert got.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in got


def test_a_body_announced_too_large_is_refused_before_it_is_sent(edge: Running) -> None:
    head = b"POST /ofrep/v1/evaluate/flags HTTP/1.1\r\n" + HOST + KEY
    sent = head + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
    assert edge.raw(sent, until=answers(1)).startswith(b"HTTP/1.1 413")


def test_who_asks_first_is_told_to_go_on(edge: Running) -> None:
    whole = post("ada", extra=b"Expect: 100-continue\r\n")
    head, _, body = whole.partition(b"\r\n\r\n")
    with edge.connect() as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert read(connection, lambda got: b"\r\n\r\n" in got) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert b'"value":true' in read(connection, answers(1))


def test_http_1_0_and_connection_close_end_the_connection(edge: Running) -> None:
    old = see("ada").replace(b"HTTP/1.1", b"HTTP/1.0")
    closing = get("/api/v1/flags/weilidai/users/ada", extra=b"Connection: close\r\n")
    for sent in (old, closing):
        got = edge.raw(sent, until=lambda _: False)  # to the end of the connection
        assert users(got) == ["ada"]
        assert b"connection: close\r\n" in got


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="TLS"),
        pytest.param(b"NONSENSE\r\n\r\n", id="no request line"),
        pytest.param(b"GET / HTTP/1.1\r\nbad header\r\n\r\n", id="no header"),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            id="two lengths",
        ),
    ],
)
def test_what_is_not_http_gets_400_and_the_end(edge: Running, sent: bytes) -> None:
    got = edge.raw(sent, until=lambda _: False)
    assert got.startswith(b"HTTP/1.1 400")
    assert json.loads(bodies(got)[0])["error"]["code"] == "http.invalid"


def test_a_bad_request_does_not_overtake_the_answers_before_it(edge: Running) -> None:
    got = edge.raw(see("ada") + b"\x00\r\n\r\n", until=lambda _: False)
    first, second = bodies(got)
    assert json.loads(first)["user"] == "ada"
    assert json.loads(second)["error"]["code"] == "http.invalid"


def test_too_many_headers_are_refused(edge: Running) -> None:
    sent = get("/api/v1/flags/weilidai/users/ada", extra=b"X-Long: " + b"x" * 70_000 + b"\r\n")
    assert edge.raw(sent, until=answers(1)).startswith(b"HTTP/1.1 431")


def test_an_offer_of_http_2_is_not_taken(edge: Running) -> None:
    """Java's client makes it with its first request, and goes on with HTTP/1.1."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    with edge.connect() as connection:
        connection.sendall(post("ada", extra=offer))
        assert b'"value":true' in read(connection, answers(1))
        connection.sendall(post("ada"))
        assert b'"value":true' in read(connection, answers(1))


def test_a_proxy_may_send_the_absolute_form(edge: Running) -> None:
    sent = get("http://edge/api/v1/flags/weilidai/users/ada?x=1")
    assert users(edge.raw(sent, until=answers(1))) == ["ada"]


def test_a_client_that_leaves_while_it_waits_harms_nobody(own_store: Store) -> None:
    running = Running(own_store)
    try:
        own_store.stall()
        for _ in range(20):
            with running.connect() as connection:
                connection.sendall(see("ada") * 3)
        own_store.resume()
        assert running.ask("GET", "/health/live").status == 200
        assert "Traceback" not in running.words()
    finally:
        running.stop()


def flood(connection: socket.socket) -> None:
    """A hundred megabytes of requests."""
    batch = see("ada") * 200
    for _ in range(100_000_000 // len(batch)):
        connection.sendall(batch)


def test_a_client_that_does_not_read_is_not_buffered_for_ever(edge: Running) -> None:
    with edge.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):  # the server stops reading, so we cannot go on sending
            flood(connection)
    assert edge.ask("GET", "/health/live").status == 200


def test_a_signal_lets_the_last_answers_out(own_store: Store) -> None:
    running = Running(own_store)
    own_store.stall()
    with running.connect() as connection:
        connection.sendall(see("ada"))
        read_before = running.ask("GET", "/health/live").status
        running.process.terminate()
        got = read(connection, lambda _: False)
    assert read_before == 200
    assert users(got) == ["ada"]
    assert b"connection: close" in got
    own_store.resume()
    running.process.wait(10)


@pytest.fixture(scope="module")
def one_port(store: Store) -> Iterator[Running]:
    """A check server with an application behind it."""
    running = Running(store, "--app", "tests.edge.behind:application")
    yield running
    running.stop()


def test_the_application_behind_gets_all_other_paths(one_port: Running) -> None:
    answer = one_port.ask("POST", "/echo?x=1", b"hello", {"X-Test": "1"})
    assert answer.json == {"method": "POST", "path": "/echo", "query": "x=1", "body": "hello"}


def test_checks_and_the_application_share_a_connection_in_order(one_port: Running) -> None:
    slow = get("/slow")
    sent = see("a") + slow + see("b") + get("/echo") + slow + see("c") + see("d") + slow
    got = one_port.raw(sent, until=answers(8))
    names = [body.get("user", body.get("path")) for body in map(json.loads, bodies(got))]
    assert names == ["a", "/slow", "b", "/echo", "/slow", "c", "d", "/slow"]


def test_a_body_for_the_application_may_be_larger_than_a_checks(one_port: Running) -> None:
    answer = one_port.ask("POST", "/length", b"x" * 3_000_000)
    assert answer.json == {"length": 3_000_000}


def test_a_failing_application_does_not_disturb_checks(one_port: Running) -> None:
    assert one_port.ask("GET", "/broken").status == 500
    assert one_port.see("weilidai", "ada").status == 200
