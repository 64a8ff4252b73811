"""Compares a table of wanted members with a list, in statements over sets.

Who is added, removed or moved to another state goes into blocks (`cohorts.models.ListBlock`),
sorted by user id, so that five million differences are some thousand rows.
"""

# ruff: noqa: S608 - table names carry a row's number, and nothing else is put into statements

from __future__ import annotations

from typing import Any, Final

from django.db import connection, transaction

from cohorts.models import ListBlock, ListPart, ListVersion, UserList
from huidu.errors import StateError

USERS: Final = 4_000
"""Users of one block."""

TRIES: Final = 5
WORK_MEM: Final = "128MB"
"""What PostgreSQL may use to sort; the rest spills to its disk."""

State = ListVersion.State
Kind = ListBlock.Kind


def compare(version: ListVersion, rows: int, *, has_states: bool) -> None:
    """Turn ``cohorts_listing_<pk>`` into blocks and counts; the version is ready after it.

    1. One row a user: of several with states the latest counts, then the one furthest on.
    2. The differences from the list, in blocks.
    3. Only if the list is still what was read; else again.

    Args:
        rows: valid lines of the file.
    Raises:
        StateError: cancelled meanwhile, or the list changes faster than it is compared.
    """
    with connection.cursor() as cursor:
        for _ in range(TRIES):
            with transaction.atomic():
                _set_limits(cursor)
                if not _listed(cursor, version.pk, has_states):
                    raise StateError("the comparison was cancelled")
                version.users = _count(cursor, f"SELECT count(*) FROM cohorts_listed_{version.pk}")
                version.duplicates = rows - version.users
                if _compare_once(cursor, version, has_states):
                    return
    raise StateError(f"{version.list.key} changes too fast to be compared: try again later")


def _set_limits(cursor: Any) -> None:
    cursor.execute(f"SET LOCAL work_mem = '{WORK_MEM}'")
    cursor.execute("SET LOCAL statement_timeout = 0")  # a worker may take its time


def _listed(cursor: Any, number: int, has_states: bool) -> bool:
    cursor.execute("SELECT to_regclass(%s)", [f"cohorts_listing_{number}"])
    if cursor.fetchall()[0][0] is None:
        return False
    cursor.execute("SELECT to_regclass(%s)", [f"cohorts_listed_{number}"])
    if cursor.fetchall()[0][0] is not None:
        return True  # from an earlier try
    one_each = (
        "SELECT DISTINCT ON (user_id) user_id, state, at"
        f" FROM cohorts_listing_{number} ORDER BY user_id, at DESC NULLS LAST,"
        " array_position(ARRAY['removed', 'expired', 'accepted', 'invited'], state)"
        if has_states
        else f"SELECT user_id FROM cohorts_listing_{number} GROUP BY user_id ORDER BY user_id"
    )
    # Sorted, so that the blocks need no further sort.
    cursor.execute("SET LOCAL enable_hashagg = off")
    cursor.execute(f"CREATE UNLOGGED TABLE cohorts_listed_{number} AS {one_each}")
    cursor.execute(f"ANALYZE cohorts_listed_{number}")
    cursor.execute("SET LOCAL enable_hashagg = on")
    return True


def _compare_once(cursor: Any, version: ListVersion, has_states: bool) -> bool:
    """Blocks and counts of one reading of the list; False when the list changed meanwhile."""
    base = UserList.objects.get(pk=version.list_id).version
    _make_blocks(cursor, version, has_states)
    found = UserList.objects.select_for_update().get(pk=version.list_id)
    if found.version != base:
        ListBlock.objects.filter(version=version).delete()
        return False
    version.base = base
    _count_kinds(cursor, version, found.size, has_states)
    version.state, version.bytes_read = State.READY, version.size_bytes
    fields = {name: getattr(version, name) for name in _COUNTED}
    still = ListVersion.objects.filter(pk=version.pk, state=State.COMPARING)
    if not still.update(**fields):
        raise StateError("the comparison was cancelled")
    ListPart.objects.filter(version=version).delete()
    return True


_COUNTED: Final = (
    "base", "users", "added", "removed", "changed", "unchanged", "duplicates", "empty", "invalid",
    "faults", "state", "bytes_read",
)  # fmt: skip


def _make_blocks(cursor: Any, version: ListVersion, has_states: bool) -> None:
    keys = {
        "version": version.pk,
        "list": version.list_id,
        "state": version.member_state,
        "size": USERS,
    }
    cursor.execute(
        "INSERT INTO cohorts_listblock (version_id, kind, first, last, users, lines)"
        " SELECT %(version)s, kind, min(user_id), max(user_id), count(*),"
        "  string_agg(line, E'\\n' ORDER BY user_id)"
        " FROM (SELECT kind, user_id, line, (row_number() OVER"
        "   (PARTITION BY kind ORDER BY user_id) - 1) / %(size)s AS block"
        f"  FROM ({_differences(version, has_states)}) AS differing) AS numbered"
        " GROUP BY kind, block ORDER BY kind, block",
        keys,
    )


def _differences(version: ListVersion, has_states: bool) -> str:
    """SQL: kind, user and line of everybody whose membership the file would change."""
    wanted = f"cohorts_listed_{version.pk}"
    if version.mode == ListVersion.Mode.REMOVE:
        # States make no difference to users who are to go.
        wanted, has_states = f"(SELECT user_id FROM {wanted})", False
    state = "w.state" if has_states else "NULL"
    at = "coalesce(w.at::text, '')" if has_states else "''"
    ends = f"{state} IN ('expired', 'removed')" if has_states else "false"
    after = f"w.user_id || E'\\t' || coalesce({state}, %(state)s) || E'\\t' || {at}"
    before = "m.state || E'\\t' || coalesce(m.since::text, '')"
    plain = f"({state} IS NULL OR ({state} = %(state)s AND {at} = ''))"
    added = (
        f"SELECT 'added' AS kind, w.user_id, CASE WHEN {plain} THEN w.user_id"
        f" ELSE {after} || E'\\t\\t' END AS line"
        f" FROM {wanted} AS w LEFT JOIN held AS m ON m.user_id = w.user_id"
        f" WHERE m.user_id IS NULL AND NOT {ends}"
    )
    changed = (
        f"SELECT 'changed', w.user_id, {after} || E'\\t' || {before}"
        f" FROM {wanted} AS w JOIN held AS m ON m.user_id = w.user_id"
        f" WHERE NOT {ends} AND w.state <> m.state"
    )
    ended = (
        f"SELECT 'removed', w.user_id, {after} || E'\\t' || {before}"
        f" FROM {wanted} AS w JOIN held AS m ON m.user_id = w.user_id WHERE {ends}"
    )
    gone = f"m.user_id || E'\\tremoved\\t\\t' || {before}"
    absent = (
        f"SELECT 'removed', m.user_id, {gone} FROM held AS m"
        f" LEFT JOIN {wanted} AS w ON w.user_id = m.user_id WHERE w.user_id IS NULL"
    )
    named = (
        f"SELECT 'removed', m.user_id, {gone} FROM held AS m"
        f" JOIN {wanted} AS w ON w.user_id = m.user_id"
    )
    held = (
        'SELECT user_id COLLATE "C" AS user_id, state, since'
        " FROM cohorts_userlistmember WHERE list_id = %(list)s"
    )
    if version.mode == ListVersion.Mode.REMOVE:
        parts = [
            f"SELECT 'removed' AS kind, user_id, line FROM ({named}) AS n (kind, user_id, line)"
        ]
    else:
        parts = [added]
        if has_states:
            parts += [changed, ended]
        if version.mode == ListVersion.Mode.REPLACE:
            parts.append(absent)
    return f"WITH held AS NOT MATERIALIZED ({held}) " + " UNION ALL ".join(parts)


def _count_kinds(cursor: Any, version: ListVersion, size: int, has_states: bool) -> None:
    cursor.execute(
        "SELECT kind, sum(users) FROM cohorts_listblock WHERE version_id = %s GROUP BY kind",
        [version.pk],
    )
    found = {kind: int(users) for kind, users in cursor.fetchall()}
    version.added, version.removed, version.changed = (
        found.get(kind, 0) for kind in (Kind.ADDED, Kind.REMOVED, Kind.CHANGED)
    )
    moved = version.added + version.changed
    if version.mode == ListVersion.Mode.REPLACE and not has_states:
        version.unchanged = version.users - moved
    elif version.mode == ListVersion.Mode.REPLACE:
        version.unchanged = size - version.removed - version.changed
    else:
        version.unchanged = version.users - moved - version.removed


def _count(cursor: Any, query: str) -> int:
    cursor.execute(query)
    return int(cursor.fetchall()[0][0])
