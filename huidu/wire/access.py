"""API keys as the edge holds them in memory: kinds and rights, never the keys themselves."""

from __future__ import annotations

import enum
import hashlib

import msgspec


class KeyKind(enum.StrEnum):
    """What a key may do. Each kind may do only its own, except `ADMIN`, which may do all."""

    SERVER = "server"  # checks with any context, snapshot, stream
    CLIENT = "client"  # checks of client-visible flags; asserts no held facts
    INGEST = "ingest"  # payments, profiles, events
    ADMIN = "admin"  # everything, management included


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One live key: `digest` is the SHA-256 of the key's text, in hex."""

    id: int
    digest: str
    kind: KeyKind
    environment: str


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """All live keys of the deployment. `sequence` grows by one each time it is published."""

    sequence: int
    keys: list[Key]


def digest(key: str) -> str:
    """SHA-256 of an API key's text, in hex: what is stored and looked up."""
    return hashlib.sha256(key.encode()).hexdigest()


def encode(access: Access) -> bytes:
    return msgspec.json.encode(access)


def decode(data: bytes) -> Access:
    """Raises `msgspec.ValidationError` with the path of the fault."""
    return msgspec.json.decode(data, type=Access)
