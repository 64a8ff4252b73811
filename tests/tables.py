"""Tests that commit leave the database as migrations made it, in a twentieth of a second.

Django truncates every table, which makes files, and saves the first rows again one by one, which
took seconds a test. Here small tables are emptied by DELETE, and the first rows come back by COPY
with the ids they had, so that nothing that remembers an id (content types) stumbles.
"""

from __future__ import annotations

from django.db import connection, transaction
from django.test import TransactionTestCase

# Rows beyond this are dropped with their file: dead ones would be read again by every scan.
BYTES_WORTH_A_TRUNCATE = 1_000_000


def keep_first_rows() -> None:
    """Remember what the tables hold now, and make it what every test that commits leaves."""
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    quote = connection.ops.quote_name
    first: dict[str, bytes] = {}
    with connection.cursor() as cursor:
        for table in tables:
            with cursor.copy(f"COPY {quote(table)} TO STDOUT") as rows:
                if kept := b"".join(rows):
                    first[table] = kept

    def restore(case: TransactionTestCase) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            # Neither foreign keys nor triggers that guard rows may object to the order.
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(
                "SELECT name FROM unnest(%s::text[]) AS name"
                " WHERE pg_relation_size(quote_ident(name)) > %s",
                [tables, BYTES_WORTH_A_TRUNCATE],
            )
            if large := [name for (name,) in cursor.fetchall()]:
                cursor.execute(f"TRUNCATE {', '.join(map(quote, large))} CASCADE")
            cursor.execute("".join(f"DELETE FROM {quote(table)};" for table in tables))
            for table, rows in first.items():
                with cursor.copy(f"COPY {quote(table)} FROM STDIN") as copy:
                    copy.write(rows)

    TransactionTestCase._fixture_teardown = restore
