"""What leaves the installation: signed as the standard says, and to no address inside."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from huidu.errors import InputError
from rollout.services import outbound, signing, webhooks
from tests.rollout.conftest import ANN, PLACE


def test_a_signature_is_what_the_standard_says():
    """The example of the Standard Webhooks libraries."""
    found = signing.headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        datetime.fromtimestamp(1614265330, UTC),
    )
    assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"],
)
def test_addresses_inside_are_refused(host: str, settings: Any):
    settings.HUIDU_PRIVATE_TARGETS = ["192.168.0.0/16"]
    with pytest.raises(InputError, match="private address"):
        outbound.send("GET", f"http://{host}:1/", deadline=1)


@pytest.mark.parametrize("url", ["ftp://a/b", "http://", "https://u:p@example.com/", "x", ""])
def test_an_odd_address_is_refused_when_the_webhook_is_made(url: str):
    with pytest.raises(InputError):
        webhooks.create(PLACE, {"name": "odd", "url": url}, by=ANN)


def test_an_answer_that_comes_byte_by_byte_holds_nobody_up(settings: Any):
    settings.HUIDU_PRIVATE_TARGETS = ["127.0.0.1"]
    enough = threading.Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while not enough.wait(0.02):
                    self.wfile.write(b".")

        def log_message(self, *given: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            with pytest.raises(httpx.ReadTimeout):
                outbound.send("GET", f"http://127.0.0.1:{server.server_port}/", deadline=0.5)
        finally:
            enough.set()
            server.shutdown()
