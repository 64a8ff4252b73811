"""What the check server reads from the environment: the names `config.environment` uses too.

It is read here again because this process loads neither Django nor pydantic.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from huidu.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
_ENVIRONMENT = re.compile(r"[a-z][a-z0-9-]{0,30}")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How one check server differs from another."""

    home: Path
    """Data folder; the last good snapshot is kept in ``edge/`` below it."""
    environment: str
    """The environment whose flags are answered."""
    day_zone: str
    """Time zone whose calendar days payments are counted in."""
    redis_url: str


def read(environ: Mapping[str, str] = os.environ) -> Settings:
    """Raises `InputError` with the name of an odd value."""
    home = Path(environ.get("HUIDU_HOME") or ROOT / ".huidu")
    environment = environ.get("HUIDU_ENVIRONMENT") or "production"
    if not _ENVIRONMENT.fullmatch(environment):
        raise InputError(
            f"expected small letters, digits and dashes, got {environment!r}",
            path="HUIDU_ENVIRONMENT",
        )
    day_zone = environ.get("HUIDU_DAY_ZONE") or "Asia/Shanghai"
    try:
        ZoneInfo(day_zone)
    except (KeyError, ValueError, OSError) as error:
        raise InputError(
            f"expected a time zone such as Asia/Shanghai, got {day_zone!r}", path="HUIDU_DAY_ZONE"
        ) from error
    return Settings(
        home=home,
        environment=environment,
        day_zone=day_zone,
        redis_url=environ.get("REDIS_URL") or f"unix://{_embedded_socket(home)}",
    )


def _embedded_socket(home: Path) -> Path:
    """Where `bin/up` puts the socket of the Redis it runs for `home` (`local.servers` decides)."""
    name = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"huidu-{os.getuid()}-{name}" / "redis.sock"
