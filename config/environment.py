"""What Huidu reads from the environment: one typed list, and nowhere else.

Every name starts with ``HUIDU_`` except ``DATABASE_URL`` and ``REDIS_URL``. An odd value stops the
start with a sentence that names it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from datetime import date, timedelta
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from config import freeze
from config.freeze import Freeze
from local.servers import socket_folder

ROOT = Path(__file__).resolve().parent.parent


def _zone(name: str) -> str:
    ZoneInfo(name)  # raises with the name when there is no such zone
    return name


def _split(text: object) -> object:
    return [name.strip() for name in text.split(",")] if isinstance(text, str) else text


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError(f"expected an address such as http://prometheus:9090, got {text!r}")
    return text


def _warehouse(text: str) -> str:
    if text and not (text.startswith("duckdb:///") and len(text) > len("duckdb:///")):
        raise ValueError(f"expected duckdb:///folder/file.duckdb, got {text!r}")
    return text


def _days(text: object) -> object:
    """Single days and ranges, ``2027-02-05/2027-02-11 春节``, as the days they name."""
    if not isinstance(text, str):
        return text
    parts = [part.split()[0] for part in re.split(r"[,;，；]", text) if part.strip()]
    days = set()
    for part in parts:
        first, _, last = part.partition("/")
        try:
            start, end = date.fromisoformat(first), date.fromisoformat(last or first)
        except ValueError as error:
            raise ValueError(f"expected a day such as 2027-02-05, got {part!r}") from error
        if not 0 <= (end - start).days <= 366:
            raise ValueError(f"expected a range of at most a year, got {part!r}")
        days |= {start + timedelta(days=n) for n in range((end - start).days + 1)}
    return frozenset(days)


def _targets(names: list[str]) -> list[str]:
    for name in names:
        # What looks like a network must be one: a typing error must not read as a host name.
        if "/" in name or name.replace(".", "").isdigit():
            ip_network(name, strict=False)
    return [name for name in names if name]


Days = Annotated[frozenset[date], NoDecode, BeforeValidator(_days)]
Names = Annotated[list[str], NoDecode, BeforeValidator(_split)]


class Environment(BaseSettings):
    """The settings an installation may differ in."""

    model_config = SettingsConfigDict(env_prefix="HUIDU_", extra="ignore")

    home: Annotated[Path, AfterValidator(_absolute)] = ROOT / ".huidu"
    """Data folder: embedded servers, secrets, logs, last good snapshots."""
    port: int = Field(default=8000, ge=1, le=65535)
    """The one port for checks, API and admin."""
    environment: str = Field(default="production", pattern=r"^[a-z][a-z0-9-]{0,30}$")
    """Which environment this process answers checks for."""
    debug: bool = False
    hosts: Names = ["*"]
    """Host names the admin answers to, separated by commas."""
    day_zone: Annotated[str, AfterValidator(_zone)] = "Asia/Shanghai"
    """The time zone whose calendar days payments are counted in."""
    database_url: str = Field(default="", validation_alias=AliasChoices("DATABASE_URL"))
    """Empty: the PostgreSQL that `bin/up` runs for `home`."""
    redis_url: str = Field(default="", validation_alias=AliasChoices("REDIS_URL"))
    """Empty: the Redis that `bin/up` runs for `home`."""
    contribution_floor_ppm: int = Field(default=300_000, ge=0, le=1_000_000)
    """Least share of each loan that an open funding partner contributes, in parts per million."""
    secret: str = ""
    """Signs sessions; empty: generated once and kept in `home`."""
    demo_users: int = Field(default=100_000, ge=1_000, le=10_000_000)
    """How many made-up users the first `bin/up` of a home loads."""
    origins: Names = []
    """Origins (https://...) that may post to the admin through a proxy, separated by commas."""

    public_url: str = ""
    """Where people open the admin, for links in messages; empty: this machine and `port`."""
    prometheus_url: Annotated[str, AfterValidator(_web_address)] = ""
    """Prometheus whose expressions guards may read; people who edit metrics name no address."""
    warehouse_url: Annotated[str, AfterValidator(_warehouse)] = ""
    """The warehouse whose tables guards may read: duckdb:///folder/file.duckdb."""
    windows_engine: str = Field(default="duckdb", pattern=r"^(duckdb|spark)$")
    """What counts a warehouse's payments: duckdb, or spark (needs pyspark and Java)."""
    windows_memory: str = Field(default="3GB", pattern=r"^[1-9][0-9]*(\.[0-9]+)?[MGT]i?B$")
    """How much memory that may take; DuckDB goes on in files, Spark's driver gets so much."""
    spark_master: str = "local[*]"
    """Where Spark runs, such as spark://host:7077."""
    private_targets: Annotated[Names, AfterValidator(_targets)] = []
    """Hosts and networks (10.0.0.0/8) that webhooks and readings may reach although private."""
    freeze_windows: Annotated[tuple[Freeze, ...], NoDecode, BeforeValidator(freeze.parse)] = ()
    """Times without promotion: 2027-02-05/2027-02-12 春节, separated by commas."""
    review_working_days: int = Field(default=15, ge=1, le=250)
    """Working days within which a review by a person is answered."""
    receipt_days: int = Field(default=1_100, ge=1, le=36_500)
    """Days for which receipts of checks are kept; whole months are dropped."""
    holidays: Days = frozenset()
    """Days off besides weekends: 2027-02-05/2027-02-11 春节, separated by commas."""
    worked_weekends: Days = frozenset()
    """Saturdays and Sundays that are worked in exchange, separated by commas."""
    email_host: str = ""
    """The mail server; empty: mails are written to the log."""
    email_port: int = Field(default=587, ge=1, le=65535)
    email_user: str = ""
    email_password: str = ""
    email_tls: bool = True
    """STARTTLS before anything is said."""
    email_from: str = "huidu@localhost"

    def model_post_init(self, context: object, /) -> None:
        if not self.database_url:
            self.database_url = f"postgresql://huidu@/huidu?host={socket_folder(self.home)}"
        if not self.public_url:
            self.public_url = f"http://127.0.0.1:{self.port}"
        if not self.redis_url:
            self.redis_url = f"unix://{socket_folder(self.home)}/redis.sock"

    @cached_property
    def secret_key(self) -> str:
        """The configured secret, else one made once for this home."""
        if self.secret:
            return self.secret
        file = self.home / "secret"
        self.home.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            # Linked into place whole: another process of this home finds all of it or nothing.
            new = file.with_name(f"secret.{os.getpid()}")
            new.touch(mode=0o600)
            new.write_text(secrets.token_urlsafe(48))
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(new, file)
            new.unlink()
        return file.read_text().strip()
