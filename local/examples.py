"""Three calls to try first: a yes, a no with its reason, and a payment. Chosen by asking.

Which users are shown the product depends on the demo and on all that was done to it since, so the
running server is asked.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from local.access import Access
from local.home import HOST

FLAG = "weilidai"
CANDIDATES = 400
SECONDS = 3.0


@dataclass(frozen=True)
class Example:
    """A command line that works as it stands, and what it shows."""

    says: str
    command: str


class Asker:
    """Asks the running server for checks over one connection."""

    def __init__(self, port: int, access: Access) -> None:
        self.access = access
        self._connection = http.client.HTTPConnection(HOST, port, timeout=SECONDS)

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON body; status 0 when nobody answers."""
        headers = {"Authorization": f"Bearer {self.access.keys['server']}"}
        try:
            self._connection.request("GET", path, headers=headers)
            response = self._connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            return 0, {}

    def check(self, user: str) -> dict[str, Any]:
        """The answer for one user; empty when there is none."""
        status, answer = self.get(f"/api/v1/flags/{FLAG}/users/{user}")
        return answer if status == 200 else {}

    def ready(self) -> bool:
        """Whether the server is up and answers a check from a snapshot."""
        return self.get("/health/ready")[0] == 200 and bool(self.check("nobody").get("snapshot"))


def candidates(database_url: str) -> list[str]:
    """Some users of the demo, staff among them."""
    staff = "SELECT user_id FROM cohorts_profile WHERE staff ORDER BY user_id LIMIT 20"
    others = "SELECT user_id FROM cohorts_profile ORDER BY user_id LIMIT %s"
    with psycopg.connect(database_url, connect_timeout=5) as connection:
        rows = connection.execute(others, [CANDIDATES]).fetchall()
        rows += connection.execute(staff).fetchall()
    return [user for (user,) in rows]


def find(asker: Asker, users: Iterable[str]) -> list[Example]:
    """The examples that the present state offers: one shown, one hidden, one payment."""
    shown = hidden = None
    for user in users:
        answer = asker.check(user)
        if answer.get("visible") and shown is None:
            shown = user, answer
        # A refusal by a gate says more than a draw without luck.
        elif answer and not answer["visible"]:
            better = hidden is None or hidden[1]["why"].startswith("stage.")
            hidden = (user, answer) if better else hidden
        if shown and hidden and not hidden[1]["why"].startswith("stage."):
            break
    examples = []
    for found, word in ((shown, "shown"), (hidden, "hidden")):
        if found:
            user, answer = found
            says = f"{word}: {answer['reason']} {answer['why']}"
            examples.append(Example(says, _check(asker.access, user)))
    user = (shown or hidden or ("u1", {}))[0]
    return [*examples, Example("a payment, counted once", _payment(asker.access, user))]


def _check(access: Access, user: str) -> str:
    url = f"{access.url}/api/v1/flags/{FLAG}/users/{user}"
    return f"curl -s -H 'Authorization: Bearer {access.keys['server']}' {url}"


def _payment(access: Access, user: str) -> str:
    now = datetime.now(UTC).replace(microsecond=0)
    payment = {
        "event_id": f"hello-{now:%Y%m%d%H%M%S}",
        "user_id": user,
        "paid_at": now.isoformat().replace("+00:00", "Z"),
        "amount_cny": 12.5,
    }
    body = json.dumps({"payments": [payment]}, separators=(",", ":"))
    return (
        f"curl -s -H 'Authorization: Bearer {access.keys['ingest']}' "
        f"-H 'Content-Type: application/json' -d '{body}' {access.url}/api/v1/payments"
    )
