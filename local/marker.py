"""What `local.prepare` has done to a database, noted in that database itself.

Read without Django, so that a start that has nothing to do does nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = "schema"
DEMO = "demo"
ACCESS = "access"


def schema_fingerprint() -> str:
    """Changes whenever a migration of ours or a pinned package does."""
    state = hashlib.sha256()
    files = [*ROOT.glob("cohorts/migrations/*.py"), *ROOT.glob("rollout/migrations/*.py")]
    for file in [ROOT / "requirements.txt", *sorted(files)]:
        state.update(file.name.encode() + b"\0" + file.read_bytes())
    return state.hexdigest()


def access_fingerprint(demo_file: Path) -> str:
    """Of the keys and the login in the file; the port does not count. Empty without a file."""
    from local.access import read

    access = read(demo_file)
    if access is None:
        return ""
    parts = [access.username, access.password, *sorted(access.keys.values())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read(database_url: str) -> dict[str, str]:
    """The notes of a database; empty when there are none or it cannot be reached."""
    try:
        with psycopg.connect(database_url, connect_timeout=5) as connection:
            return dict(connection.execute("SELECT name, value FROM huidu_local").fetchall())
    except (psycopg.errors.UndefinedTable, psycopg.OperationalError):
        return {}


def write(database_url: str, name: str, value: str) -> None:
    with psycopg.connect(database_url, connect_timeout=5) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS huidu_local (name text PRIMARY KEY, value text NOT NULL)"
        )
        connection.execute(
            "INSERT INTO huidu_local VALUES (%s, %s) "
            "ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value",
            [name, value],
        )


def is_current(database_url: str, demo_file: Path) -> bool:
    """Whether a start of this checkout finds schema, demo and access as it needs them."""
    notes = read(database_url)
    return (
        notes.get(SCHEMA) == schema_fingerprint()
        and DEMO in notes
        and notes.get(ACCESS, "") == access_fingerprint(demo_file) != ""
    )
