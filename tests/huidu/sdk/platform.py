"""A small platform on loopback for the SDK's tests: real HTTP, real streams, real outages."""

from __future__ import annotations

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from huidu.model import (
    Attribute,
    AttributeSource,
    AttributeType,
    Flag,
    Gate,
    Rollout,
    RolloutStatus,
    Snapshot,
    Stage,
    Variant,
)
from huidu.wire import snapshot as wire


def snapshot(sequence: int = 1, **changes: Any) -> Snapshot:
    """`weilidai` for staff in Shenzhen's province, plus one flag of every other type."""
    stage = Stage(
        key="internal",
        audience={
            "and": [
                {"==": [{"var": "staff"}, True]},
                {"within": [{"var": "region"}, ["440000"]]},
            ]
        },
        audience_why="stage.not_internal",
    )
    rollout = Rollout(
        slot=1, salt="s", status=RolloutStatus.RUNNING, stages=[stage], current=0, sticky=True
    )

    def shown(slot: int) -> Rollout:
        return Rollout(
            slot=slot, salt="t", status=RolloutStatus.RUNNING, stages=[Stage(key="all")], current=0
        )

    flags = [
        Flag(
            key="weilidai",
            version=sequence,
            rollout=rollout,
            record_on_check=True,
            payload={"cap": 5000},
            **changes,
        ),
        Flag(
            key="words",
            version=1,
            type="string",
            off_value="",
            variants=[Variant(key="zh", value="你好")],
            rollout=shown(2),
        ),
        Flag(
            key="busy",
            version=1,
            gates=[
                Gate(
                    key="activity",
                    dimension="activity",
                    why="activity.too_low",
                    rule={">": [{"var": "weekly_payments"}, 5]},
                )
            ],
            rollout=shown(5),
        ),
        Flag(
            key="limit",
            version=1,
            type="integer",
            off_value=0,
            variants=[Variant(key="high", value=7)],
            rollout=shown(3),
        ),
        Flag(
            key="rate",
            version=1,
            type="float",
            off_value=0.0,
            variants=[Variant(key="low", value=1)],
            rollout=shown(4),
        ),
    ]
    return Snapshot(
        environment="production",
        sequence=sequence,
        published_at="2026-01-01T00:00:00Z",
        attributes=[
            Attribute(id=1, name="staff", type=AttributeType.BOOLEAN, source=AttributeSource.HELD),
            Attribute(id=3, name="weekly_payments", type=AttributeType.INTEGER),
            Attribute(
                id=2, name="region", type=AttributeType.REGION, source=AttributeSource.EITHER
            ),
        ],
        cohorts=[],
        flags=flags,
    )


class Platform:
    """Serves one snapshot, streams its changes, keeps the events it was sent."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._events: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.profiles: dict[str, bytes] = {}
        self.fail_with = 0
        self.streams: list[queue.Queue[str | None]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it was told; as on the real one, an event that is sent again counts once."""
        return list(self._events.values())

    def record(self, events: list[dict[str, Any]]) -> None:
        self._events.update((each["event_id"], each) for each in events)

    def publish(self, data: bytes) -> None:
        self.data = data
        for stream in self.streams:
            stream.put("event: snapshot\ndata: {}\n\n")

    def stop(self) -> None:
        for stream in self.streams:
            stream.put(None)
        self._server.shutdown()
        self._server.server_close()


def _handler(platform: Platform) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            platform.requests.append(self.path)
            if platform.fail_with:
                self._answer(platform.fail_with, b"{}")
            elif self.path == "/api/v1/snapshot":
                tag = f'"{wire.version_of(platform.data)}"' if platform.data[:5] == b"HUIDU" else ""
                if tag and self.headers.get("If-None-Match") == tag:
                    self._answer(304, b"")
                else:
                    self._answer(200, platform.data, {"ETag": tag} if tag else {})
            elif self.path.endswith("/packed"):
                held = platform.profiles.get(self.path.split("/")[-2])
                self._answer(404 if held is None else 200, held or b"{}")
            elif self.path == "/events/v1/stream":
                self._stream()
            else:
                self._answer(404, b"{}")

        def do_POST(self) -> None:
            platform.requests.append(self.path)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if platform.fail_with:
                self._answer(platform.fail_with, b"{}")
                return
            platform.record(body["events"])
            self._answer(200, b"{}")

        def _stream(self) -> None:
            mine: queue.Queue[str | None] = queue.Queue()
            platform.streams.append(mine)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b": hello\n\n")
            while (event := mine.get()) is not None:
                self.wfile.write(event.encode())

        def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler
