"""The demo's login and keys, in a file only its owner may read: `demo.json` in the home."""

from __future__ import annotations

import os
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

USERNAME = "demo"
REVIEWER = "reviewer"
"""A second person for what needs two; the password is the same, it is a demo."""
KINDS = ("server", "client", "ingest", "admin")


@dataclass(frozen=True)
class Access:
    """How to get in. `keys` has one API key of each kind."""

    url: str
    username: str
    password: str
    keys: dict[str, str]


def fresh(url: str) -> Access:
    """A new login and new keys, not yet known to any database."""
    keys = {kind: f"hd_{kind}_{secrets.token_urlsafe(24)}" for kind in KINDS}
    return Access(url=url, username=USERNAME, password=secrets.token_urlsafe(12), keys=keys)


def read(file: Path) -> Access | None:
    """What the file says; None when it is missing, damaged or lacks a key."""
    try:
        access = msgspec.json.decode(file.read_bytes(), type=Access)
    except (OSError, msgspec.DecodeError):
        return None
    return access if set(access.keys) == set(KINDS) else None


def write(file: Path, access: Access) -> None:
    """Replace the file whole; nobody but its owner may read it, at any moment."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as out:
        out.write(msgspec.json.format(msgspec.json.encode(asdict(access)), indent=2) + b"\n")
    new.replace(file)


def with_url(file: Path, url: str) -> Access | None:
    """The access with the address of this run, in the file too."""
    access = read(file)
    if access is None or access.url == url:
        return access
    access = replace(access, url=url)
    write(file, access)
    return access
