"""A small server on loopback that speaks Prometheus' HTTP API, as it answers on the wire."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Prometheus:
    """Answers each expression as told; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.hang = threading.Event()
        self.url = ""

    def vector(self, expression: str, *values: str, at: float) -> None:
        series = [{"metric": {"i": str(i)}, "value": [at, v]} for i, v in enumerate(values)]
        self.answers[expression] = {"resultType": "vector", "result": series}

    def matrix(self, expression: str, *values: tuple[float, str]) -> None:
        result = [{"metric": {}, "values": [list(each) for each in values]}] if values else []
        self.answers[expression] = {"resultType": "matrix", "result": result}


@contextmanager
def serve() -> Iterator[Prometheus]:
    told = Prometheus()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            told.asked.append((parts.path, asked))
            key = asked.get("query", "")
            if parts.path == "/api/v1/query_range":
                key = f"range:{key}"
            if key == "hang":
                told.hang.wait(10)
            data = told.answers.get(key)
            status, body = 200, {"status": "success", "data": data}
            if data is None:
                status = 400
                body = {"status": "error", "errorType": "bad_data", "error": "parse error"}
            text = data.encode() if isinstance(data, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        told.hang.set()
        server.shutdown()
        server.server_close()
