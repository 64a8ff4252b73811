"""The simulation's way into a running installation: HTTP with the demo's keys, nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx

from huidu.errors import StateError

DEADLINE_SECONDS: Final = 30.0


class Installation:
    """One running installation, as an application and its event pipeline see it.

    Args:
        home: folder of the installation; its `demo.json` has the address and the keys.
    Raises:
        StateError: there is no readable `demo.json`, or nobody answers at its address.
    """

    def __init__(self, home: Path) -> None:
        file = home / "demo.json"
        try:
            told = json.loads(file.read_text())
            self.url = str(told["url"]).rstrip("/")
            keys = told["keys"]
            self._checks, self._events = str(keys["server"]), str(keys["ingest"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(f"no readable {file}: start Huidu with bin/up first") from error
        self._http = httpx.Client(base_url=self.url, timeout=DEADLINE_SECONDS, trust_env=False)
        try:
            ready = self._http.get("/health/live")
        except httpx.HTTPError as error:
            raise StateError(f"nobody answers at {self.url}: start Huidu with bin/up") from error
        if ready.status_code != 200:
            raise StateError(f"{self.url} is not well: {ready.status_code} {ready.text[:200]}")

    def visible(self, flag: str, user: str) -> dict[str, Any]:
        """The answer of a check, as ``GET /api/v1/flags/{flag}/users/{user}`` gives it."""
        path = f"/api/v1/flags/{quote(flag, safe='')}/users/{quote(user, safe='')}"
        answer = self._http.get(path, headers={"Authorization": f"Bearer {self._checks}"})
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def evaluate(self, flag: str, user: str) -> dict[str, Any]:
        """The answer of a check through OFREP."""
        answer = self._http.post(
            f"/ofrep/v1/evaluate/flags/{quote(flag, safe='')}",
            json={"context": {"targetingKey": user}},
            headers={"Authorization": f"Bearer {self._checks}"},
        )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def send(self, events: list[dict[str, Any]]) -> dict[str, int]:
        """Post events, 5,000 a request; returns what they came to.

        Raises:
            StateError: some were rejected, which a simulation should never cause.
        """
        total = {"accepted": 0, "duplicates": 0}
        for start in range(0, len(events), 5_000):
            answer = self._http.post(
                "/api/v1/events",
                json={"events": events[start : start + 5_000]},
                headers={"Authorization": f"Bearer {self._events}"},
            )
            answer.raise_for_status()
            told = answer.json()
            if told["rejected"]:
                raise StateError(f"the installation rejected {told['rejected'][0]}")
            for name in total:
                total[name] += told[name]
        return total

    def close(self) -> None:
        self._http.close()
