"""A real check server and a Redis of its own, for tests."""

from __future__ import annotations

import datetime
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import redis as redis_py

from edge.settings import ROOT
from huidu.model import (
    Attribute,
    AttributeSource,
    AttributeType,
    Flag,
    Gate,
    RegionClass,
    RegionPolicy,
    Rollout,
    RolloutStatus,
    Snapshot,
    Stage,
    ValueType,
    Variant,
)
from huidu.sdk import Client
from huidu.wire import access, names, profile, ring, snapshot
from huidu.wire.access import Access, Key, KeyKind, digest
from local.servers import Redis, socket_folder
from tests.waiting import PATIENCE, wait_for

ENVIRONMENT = "production"
BUCKETS = 16
SERVER, CLIENT, INGEST, ADMIN = (f"hd_{kind}_test" for kind in KeyKind)
ZONE = datetime.timezone(datetime.timedelta(hours=8))

ATTRIBUTES = [
    Attribute(id=1, name="region", type=AttributeType.REGION, source=AttributeSource.EITHER),
    Attribute(id=2, name="staff", type=AttributeType.BOOLEAN),
    Attribute(id=3, name="weekly_payments", type=AttributeType.INTEGER, minimum=0),
    Attribute(id=4, name="app_version", type=AttributeType.SEM_VER, source=AttributeSource.CALLER),
    Attribute(id=5, name="risk_score", type=AttributeType.NUMBER, minimum=0, maximum=100),
]
REGIONS = RegionPolicy(
    classes=[
        RegionClass(key="open"),
        RegionClass(key="restricted", payload={"single_loan_cap_cny": 5000}),
        RegionClass(key="closed", ceiling_ppm=0),
    ],
    regions={"650000": "closed", "510000": "restricted"},
    default="open",
)


def rollout(slot: int, *, half: bool = False) -> Rollout:
    """A running rollout for everybody, or for the half of the users with the lower ranks."""
    stage = (
        Stage(key="all") if not half else Stage(key="half", share_ppm=500_000, threshold=1 << 63)
    )
    return Rollout(
        slot=slot, salt=f"s{slot}", status=RolloutStatus.RUNNING, stages=[stage], current=0
    )


def flags() -> list[Flag]:
    """One flag of each kind the tests ask about."""
    loan_gates = [
        Gate(key="region", dimension="region", why="region.closed", region=REGIONS),
        Gate(
            key="fraud",
            dimension="fraud",
            why="fraud.risk",
            rule={"<": [{"var": "risk_score"}, 60]},
        ),
    ]
    return [
        Flag(key="weilidai", version=7, gates=loan_gates, rollout=rollout(1)),
        Flag(key="half", version=1, rollout=rollout(2, half=True), record_on_check=True),
        Flag(
            key="staff-only",
            version=1,
            client_visible=False,
            rollout=rollout(3),
            gates=[
                Gate(
                    key="staff",
                    dimension="staged",
                    why="stage.not_internal",
                    rule={"==": [{"var": "staff"}, True]},
                )
            ],
        ),
        Flag(
            key="new-app",
            version=1,
            rollout=rollout(4),
            gates=[
                Gate(
                    key="app",
                    dimension="product",
                    why="product.old",
                    rule={"sem_ver": [{"var": "app_version"}, ">=", "8.0.0"]},
                )
            ],
        ),
        Flag(
            key="rate",
            version=1,
            type=ValueType.FLOAT,
            off_value=0,
            variants=[Variant(key="low", value=4)],
            rollout=rollout(5),
        ),
        Flag(key="killed", version=1, killed=True, rollout=rollout(6)),
        Flag(key="blocked", version=1, block_lists=[9], rollout=rollout(7)),
    ]


class Store:
    """A Redis of this test's own, and what publishers write to it."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="huidu-edge-"))
        self.sockets = socket_folder(self.home)
        self.server = Redis(self.home / "redis", self.sockets)
        self.server.start()
        self.client = redis_py.Redis.from_url(self.server.url)
        self.sequence = 0

    @property
    def url(self) -> str:
        return self.server.url

    def close(self) -> None:
        self.resume()
        self.client.close()
        self.server.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def fill(self) -> None:
        """Flags, keys, and three users: ada, staff in Shenzhen; bob; eve, a risk."""
        self.publish(flags())
        self.admit(KeyKind)
        self.client.hset(names.PROFILE_META, mapping={"buckets": BUCKETS})
        today = datetime.datetime.now(ZONE).date()
        common: dict[str, Any] = {
            "updated": today,
            "risk_scored_on": today,
            "last_day": today,
            "counts": ring.pack([1, 2]),
        }
        self.hold("ada", region="440300", staff=True, risk_score=5, **common)
        self.hold("bob", region="510100", staff=False, risk_score=5, **common)
        self.hold("eve", region="440300", staff=False, risk_score=99, **common)

    def publish(self, flags: Iterable[Flag], *, tell: bool = True) -> Snapshot:
        self.sequence += 1
        made = Snapshot(
            environment=ENVIRONMENT,
            sequence=self.sequence,
            published_at=datetime.datetime.now(datetime.UTC).isoformat(),
            attributes=ATTRIBUTES,
            cohorts=[],
            flags=list(flags),
        )
        self.put(snapshot.encode(made), tell=tell)
        return made

    def put(self, blob: bytes, *, tell: bool = True) -> None:
        self.client.set(names.snapshot(ENVIRONMENT), blob)
        self.client.set(names.sequence(ENVIRONMENT), self.sequence)
        if tell:
            self.tell("snapshot")

    def admit(self, kinds: Iterable[KeyKind], *, environment: str = ENVIRONMENT) -> None:
        keys = [
            Key(
                id=list(KeyKind).index(kind),
                digest=digest(f"hd_{kind}_test"),
                kind=kind,
                environment=environment,
            )
            for kind in kinds
        ]
        self.client.set(names.ACCESS, access.encode(Access(sequence=1, keys=keys)))
        self.tell("access")

    def tell(self, kind: str) -> None:
        message = {"kind": kind, "environment": ENVIRONMENT, "sequence": self.sequence}
        self.client.publish(names.PUBLISHED_CHANNEL, json.dumps(message))

    def hold(self, user: str, **facts: Any) -> None:
        key, field = profile.address(user, BUCKETS)
        self.client.hset(key, field, profile.encode(profile.Profile(**facts)))

    def forget(self, user: str) -> None:
        key, field = profile.address(user, BUCKETS)
        self.client.hdel(key, field)

    def stall(self) -> None:
        """Make Redis accept everything and answer nothing; returns once it stands still."""
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGSTOP)
        about = Path(f"/proc/{self.server.process.pid}/stat")
        if about.exists():  # the signal is only on its way when `send_signal` returns
            wait_for(lambda: about.read_text().rpartition(")")[2].split()[0] == "T")

    def resume(self) -> None:
        if self.server.process is not None:
            self.server.process.send_signal(signal.SIGCONT)


class Response(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Running:
    """A check server in a process of its own; `module` is what Python runs."""

    def __init__(
        self,
        store: Store,
        *arguments: str,
        environment_name: str = ENVIRONMENT,
        module: str = "edge",
    ) -> None:
        self.log = tempfile.NamedTemporaryFile(prefix="edge-", suffix=".log")  # noqa: SIM115
        environment = os.environ | {
            "HUIDU_HOME": str(store.home),
            "HUIDU_ENVIRONMENT": environment_name,
            "HUIDU_DAY_ZONE": "Asia/Shanghai",
            "REDIS_URL": store.url,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--port", "0", *arguments],
            cwd=ROOT,
            env=environment,
            stderr=self.log,
            stdout=self.log,
        )
        wait_for(lambda: self.listens() or self.process.poll() is not None)
        assert self.process.poll() is None, self.words()
        found = re.search(r"edge.listens host=\S+ port=(\d+)", self.words())
        assert found, self.words()
        self.port = int(found[1])

    def words(self) -> str:
        return Path(self.log.name).read_text()

    def listens(self) -> bool:
        return "edge.serves" in self.words()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(PATIENCE)
        self.log.close()
        return code

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            begun = time.perf_counter()
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            try:
                connection.endheaders(body)
            except ConnectionError as error:
                code = self.process.poll()
                raise AssertionError(f"{error}; exit {code}: {self.words()}") from error
            answer = connection.getresponse()
            content = answer.read()
            lower = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, lower, content, time.perf_counter() - begun)
        finally:
            connection.close()

    def client(self) -> Client:
        """An SDK's client of this server that asks for what is held; to be closed."""
        return Client(
            f"http://127.0.0.1:{self.port}",
            SERVER,
            held=True,
            exposures=False,
            timeout=PATIENCE,
            start_seconds=PATIENCE,
        )

    def check(self, flag: str, user: str, *, key: str = SERVER, **context: Any) -> Response:
        body = json.dumps({"context": {"targetingKey": user, **context}}).encode()
        return self.ask("POST", f"/ofrep/v1/evaluate/flags/{flag}", body, bearer(key))

    def bulk(self, user: str, *, key: str = SERVER, **headers: str) -> Response:
        body = json.dumps({"context": {"targetingKey": user}}).encode()
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", "/ofrep/v1/evaluate/flags", body, bearer(key) | extra)

    def see(self, flag: str, user: str, *, key: str = SERVER) -> Response:
        return self.ask("GET", f"/api/v1/flags/{flag}/users/{user}", headers=bearer(key))

    def raw(self, sent: bytes, *, until: Callable[[bytes], bool]) -> bytes:
        """Send bytes as they are, and read until `until` says enough, or the end."""
        with self.connect() as connection:
            connection.sendall(sent)
            return read(connection, until)

    def connect(self) -> socket.socket:
        """A connection to this server, to be closed by the caller."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def metric(self, name: str) -> float:
        """The present value of one of this process's figures."""
        told = self.ask("GET", "/metrics").body.decode()
        found = re.search(rf"(?m)^{re.escape(name)} (\S+)$", told)
        assert found, f"no {name} in {told}"
        return float(found[1])


def read(connection: socket.socket, until: Callable[[bytes], bool]) -> bytes:
    got = b""
    while not until(got):
        piece = connection.recv(65536)
        if not piece:
            break
        got += piece
    return got


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
