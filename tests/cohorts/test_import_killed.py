"""A real process, a real kill -9: the import goes on where it stopped, and nothing counts twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.db.models import Sum

from cohorts.models import DailyPayments, ImportJob, PaymentEvent
from cohorts.services.files import BATCH
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
ROWS = 20_000

pytestmark = pytest.mark.django_db(transaction=True)


def database() -> str:
    held = connection.settings_dict
    return f"postgresql://{held['USER']}@/{held['NAME']}?host={held['HOST']}"


def importer(file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "import_payments", str(file)],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database(), "REDIS_URL": settings.REDIS_URL},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def test_an_import_survives_kill_9(tmp_path, redis):
    file = tmp_path / "many.csv"
    with file.open("w") as out:
        out.write("event_id,user_id,paid_at\n")
        for number in range(ROWS):
            out.write(f"e{number},u{number % 4_999},2026-05-{1 + number % 19:02d}T02:00:00Z\n")
    with psycopg.connect(database()) as other:
        # Somebody is about to write a payment of the second batch: there the import has to wait,
        # however slow the one is that means to kill it.
        other.execute(
            "INSERT INTO cohorts_paymentevent (event_id, user_id, day, paid_at)"
            " VALUES (%s, 'u1', '2026-05-01', '2026-05-01T02:00:00Z')",
            [f"e{BATCH + 1}"],
        )
        process = importer(file)
        wait_for(
            lambda: process.poll() is not None or ImportJob.objects.filter(offset__gt=0).exists()
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
        other.rollback()
    assert process.returncode == -signal.SIGKILL
    half = ImportJob.objects.get()
    assert half.offset == PaymentEvent.objects.count() == total() == BATCH
    again = importer(file)
    printed = again.communicate()[0].decode()
    assert f"Went on after row {half.offset:,}." in printed
    assert ImportJob.objects.get().state == "done"
    assert PaymentEvent.objects.count() == total() == ROWS


def total() -> int:
    return DailyPayments.objects.aggregate(total=Sum("count"))["total"]
