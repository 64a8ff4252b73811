"""A real process, a real kill -9: the import goes on where it stopped, and nothing counts twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import Sum

from cohorts.models import DailyPayments, ImportJob, PaymentEvent

ROOT = Path(__file__).resolve().parents[2]
ROWS = 20_000

pytestmark = pytest.mark.django_db(transaction=True)


def importer(file: Path) -> subprocess.Popen[bytes]:
    held = connection.settings_dict
    url = f"postgresql://{held['USER']}@/{held['NAME']}?host={held['HOST']}"
    return subprocess.Popen(
        [sys.executable, "manage.py", "import_payments", str(file)],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "REDIS_URL": settings.REDIS_URL},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def test_an_import_survives_kill_9(tmp_path, redis):
    file = tmp_path / "many.csv"
    with file.open("w") as out:
        out.write("event_id,user_id,paid_at\n")
        for number in range(ROWS):
            out.write(f"e{number},u{number % 4_999},2026-05-{1 + number % 19:02d}T02:00:00Z\n")
    process = importer(file)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        job = ImportJob.objects.first()
        if job is not None and 0 < job.offset < ROWS:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    half = ImportJob.objects.get()
    assert half.offset == PaymentEvent.objects.count() == total()
    assert 0 < half.offset < ROWS
    again = importer(file)
    printed = again.communicate(timeout=120)[0].decode()
    assert f"Went on after row {half.offset:,}." in printed
    assert ImportJob.objects.get().state == "done"
    assert PaymentEvent.objects.count() == total() == ROWS


def total() -> int:
    return DailyPayments.objects.aggregate(total=Sum("count"))["total"]
