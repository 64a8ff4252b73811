"""The audit log: a chain that shows every change made to it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction

from huidu.errors import InputError
from rollout.models import AuditEntry, Flag
from rollout.services import audit, flags
from tests.rollout.conftest import ANN, PLACE

pytestmark = pytest.mark.django_db(transaction=True)


def write(count: int) -> None:
    with transaction.atomic():
        for number in range(count):
            audit.record(
                ANN,
                "test.done",
                f"thing:{number}",
                environment=PLACE,
                before=None,
                after={
                    "n": number,
                    "share": 1.0,
                    "big": [1e22, 1e300, -7e25, 2.0**70],
                    "文": ["字", None, True, 0.1],
                },
                reason="因为",
            )


def forge(sql: str, *values: object) -> None:
    """Change the table as somebody with the owner's rights could: past the trigger."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE rollout_auditentry DISABLE TRIGGER ALL")
        cursor.execute(sql, values)
        cursor.execute("ALTER TABLE rollout_auditentry ENABLE TRIGGER ALL")


def test_an_untouched_chain_is_whole():
    write(5)
    report = audit.verify_chain()
    assert report.whole
    assert report.entries == 5


@pytest.mark.parametrize(
    ("sql", "broken_at"),
    [
        ("UPDATE rollout_auditentry SET reason = 'other' WHERE sequence = 3", 3),
        ("UPDATE rollout_auditentry SET after = '{}' WHERE sequence = 2", 2),
        ("UPDATE rollout_auditentry SET actor = 'bob' WHERE sequence = 1", 1),
        ("UPDATE rollout_auditentry SET at = at - interval '1 day' WHERE sequence = 4", 4),
        ("DELETE FROM rollout_auditentry WHERE sequence = 3", 3),
    ],
)
def test_tampering_is_found_where_it_happened(sql: str, broken_at: int):
    write(5)
    forge(sql)
    report = audit.verify_chain()
    assert not report.whole
    assert report.broken_at == broken_at


def test_an_entry_rewritten_with_a_fitting_hash_breaks_the_next_one():
    write(5)
    entry = AuditEntry.objects.get(sequence=3)
    entry.reason, entry.at = "smooth", entry.at + timedelta(hours=1)
    forge(
        "UPDATE rollout_auditentry SET reason = %s, at = %s, hash = %s WHERE sequence = 3",
        entry.reason,
        entry.at,
        audit.hash_of(entry),
    )
    assert audit.verify_chain().broken_at == 4


@pytest.mark.parametrize(
    "sql", ["UPDATE rollout_auditentry SET reason = ''", "DELETE FROM rollout_auditentry"]
)
def test_the_database_refuses_to_change_the_log(sql: str):
    write(1)
    with pytest.raises(DatabaseError, match="written once"), connection.cursor() as cursor:
        cursor.execute(sql)


def test_a_change_that_fails_leaves_no_entry(flag: Flag):
    before = AuditEntry.objects.count()
    with pytest.raises(InputError):
        flags.update(flag, {"type": "colour"}, by=ANN)
    assert AuditEntry.objects.count() == before


def test_an_entry_tells_only_what_differs(flag: Flag):
    flags.update(flag, {"label_en": "New"}, by=ANN, reason="clearer")
    entry = AuditEntry.objects.first()
    assert entry is not None
    assert (entry.before, entry.after) == ({"label_en": "Loan"}, {"label_en": "New"})
    assert (entry.actor, entry.reason) == ("ann", "clearer")


def test_a_record_outside_a_transaction_is_a_programming_error():
    with pytest.raises(RuntimeError):
        audit.record(ANN, "x", "y", environment=PLACE)
