"""Asks at a steady rate and tells how long answers take, from the moment each request was due.

    python bench/paced.py --port 8000 --rate 10000 --seconds 5 --path /ofrep/v1/evaluate/flags/x

wrk asks again when it got its answer, so it never asks while a server is slow, and the slow moments
hardly count. Here requests fall due as of a crowd (exponential gaps, seeded) whatever the server
does, and a request that found no free connection has waited since it was due.

Told beside it: how long the server took, from the moment a request was sent until the kernel had
its answer for us (`SO_TIMESTAMPNS`). It leaves out when we came to send and when we came to read.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import select
import socket
import struct
import time
from collections import deque
from typing import Any

CONNECTIONS = 64
SO_TIMESTAMPNS = 35
"""Linux stamps what it received; Python has no name for it."""
STAMP = struct.Struct("qq")
NAP_SECONDS = 0.0001


def request(path: str, key: str, user: str) -> bytes:
    """A check as a client sends it; a plain GET where there is no key."""
    if not key:
        return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    body = json.dumps({"context": {"targetingKey": user}}, separators=(",", ":"))
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def is_whole(answer: bytes) -> bool:
    """Whether all of a response is there."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(head.decode("latin-1"))
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return len(body) >= length


def ask(port: int, requests: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Ask `rate` times a second; latencies in milliseconds.

    `client_late` is how much later than due requests were sent although a connection was free: the
    client's own fault, and a share of the latencies. `server` is from sent to received by our
    kernel: the server's share, with what it waited for a core, and for a Redis that has one.
    """
    chance = random.Random(1)
    poll = select.epoll()
    connections: dict[int, socket.socket] = {}
    for _ in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        connection.setblocking(False)
        connections[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLIN)
    free = deque(connections)
    due_at: dict[int, float] = {}
    partial: dict[int, bytes] = {}
    sent_at: dict[int, int] = {}
    latencies: list[float] = []
    served: list[float] = []
    lateness: list[float] = []
    now = start = time.perf_counter()
    next_due = start
    number, starved = 0, False
    while now < start + seconds or due_at:
        now = time.perf_counter()
        while free and next_due <= now and next_due < start + seconds:
            if not starved:
                lateness.append(now - next_due)
            starved = False
            descriptor = free.popleft()
            due_at[descriptor] = next_due
            sent_at[descriptor] = time.clock_gettime_ns(time.CLOCK_REALTIME)
            connections[descriptor].send(requests[number % len(requests)])
            number += 1
            next_due += chance.expovariate(rate)
            now = time.perf_counter()
        starved = starved or (next_due <= now and not free)
        answered = poll.poll(0)
        if not answered and next_due > now + NAP_SECONDS:
            time.sleep(NAP_SECONDS)  # others have work too; the answers' times err by this
            continue
        for descriptor, _ in answered:
            got, stamps, _, _ = connections[descriptor].recvmsg(1 << 18, 64)
            got = partial.pop(descriptor, b"") + got
            if not is_whole(got):
                partial[descriptor] = got
                continue
            latencies.append(time.perf_counter() - due_at.pop(descriptor))
            free.append(descriptor)
            if stamps:  # the kernel begins a moment after it was asked to
                seconds_part, nanoseconds = STAMP.unpack(stamps[0][2])
                came = seconds_part * 1_000_000_000 + nanoseconds
                served.append((came - sent_at[descriptor]) / 1e9)
    for connection in connections.values():
        connection.close()
    return {
        "asked_per_second": round(number / seconds),
        **{name: round(_at(latencies, share), 3) for name, share in QUANTILES.items()},
        "client_late_p99": round(_at(lateness, 0.99), 3),
        "server": {name: round(_at(served, share), 3) for name, share in QUANTILES.items()},
    }


QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


def _at(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/")
    parser.add_argument("--key", default="")
    parser.add_argument("--users", type=int, default=1)
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    chance = random.Random(2)
    requests = [
        request(arguments.path, arguments.key, f"u{chance.randrange(arguments.users)}")
        for _ in range(20_000)
    ]
    gc.disable()
    print(json.dumps(ask(arguments.port, requests, arguments.rate, arguments.seconds)))


if __name__ == "__main__":
    main()
