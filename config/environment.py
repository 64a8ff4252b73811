"""What Huidu reads from the environment: one typed list, and nowhere else.

Every name starts with ``HUIDU_`` except ``DATABASE_URL`` and ``REDIS_URL``. An odd value stops the
start with a sentence that names it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from functools import cached_property
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from local.servers import socket_folder

ROOT = Path(__file__).resolve().parent.parent


def _zone(name: str) -> str:
    ZoneInfo(name)  # raises with the name when there is no such zone
    return name


def _split(text: object) -> object:
    return [name.strip() for name in text.split(",")] if isinstance(text, str) else text


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


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
    secret: str = ""
    """Signs sessions; empty: generated once and kept in `home`."""
    demo_users: int = Field(default=100_000, ge=1_000, le=10_000_000)
    """How many made-up users the first `bin/up` of a home loads."""
    origins: Names = []
    """Origins (https://...) that may post to the admin through a proxy, separated by commas."""

    def model_post_init(self, context: object, /) -> None:
        if not self.database_url:
            self.database_url = f"postgresql://huidu@/huidu?host={socket_folder(self.home)}"
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
