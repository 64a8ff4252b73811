"""One definition of the windows: live rows, DuckDB, and a count by hand agree."""

from __future__ import annotations

import csv
import datetime
import gzip
import random
from collections import Counter, defaultdict
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cohorts import selectors, windows
from cohorts.services import packing
from cohorts.services.ingest import ingest_payments
from tests.cohorts.conftest import NOW

CDNOW = Path(__file__).resolve().parents[3] / "shared" / "data" / "cdnow_purchases.csv.gz"
SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = datetime.timedelta(days=1)

Events = list[tuple[str, str, datetime.datetime]]


def by_hand(events: Events, day: datetime.date) -> dict[str, tuple[int, int]]:
    """Weekly and monthly payments, counted the slow and obvious way."""
    first: dict[str, tuple[str, datetime.datetime]] = {}
    for event_id, user_id, paid_at in events:
        first.setdefault(event_id, (user_id, paid_at))
    weekly: Counter[str] = Counter()
    monthly: Counter[str] = Counter()
    for user_id, paid_at in first.values():
        ago = (day - paid_at.astimezone(SHANGHAI).date()).days
        weekly[user_id] += 0 <= ago < 7
        monthly[user_id] += 0 <= ago < 30
    return {user: (weekly[user], count) for user, count in monthly.items() if count}


def generated(chance: random.Random) -> Events:
    """Payments around midnights of Shanghai, with duplicates, late ones and no order."""
    midnight = datetime.datetime(2026, 4, 1, 16, 0, tzinfo=datetime.UTC)
    events: Events = []
    for number in range(1_500):
        edge = chance.choice([-1, 0, 1, 1_000_000 * chance.randint(-43_200, 43_200)])
        moment = midnight + DAY * chance.randint(0, 45) + datetime.timedelta(microseconds=edge)
        events.append((f"e{number}", f"u{chance.randint(0, 60)}", moment))
    events += chance.sample(events, 150)
    chance.shuffle(events)
    return events


@pytest.mark.django_db
@pytest.mark.parametrize("seed", [1, 2])
def test_live_rows_duckdb_packed_records_and_a_count_by_hand_agree(seed, tmp_path, packed):
    chance = random.Random(seed)
    events = generated(chance)
    for start in range(0, len(events), 170):
        some = events[start : start + 170]
        ingest_payments(
            [
                {"event_id": event, "user_id": user, "paid_at": moment.isoformat()}
                for event, user, moment in some
            ],
            NOW,
        )
    packing.drain_dirty()
    file = tmp_path / "payments.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["event_id", "user_id", "paid_at"])
        writer.writerows([event, user, moment.isoformat()] for event, user, moment in events)
    newest = max(moment for _, _, moment in events).astimezone(SHANGHAI).date()
    for day in [newest - DAY * ago for ago in range(0, 40, 5)]:
        expected = by_hand(events, day)
        live = selectors.counts_on(day)
        assert {user: (each.weekly, each.monthly) for user, each in live.items()} == expected
        assert windows.counts_of_files(str(file), day) == expected
    for user in {user for _, user, _ in events}:
        facts = packed(user, newest).attributes
        counted = (facts["weekly_payments"], facts["monthly_payments"])
        assert counted == by_hand(events, newest).get(user, (0, 0))


@pytest.mark.parametrize(
    "dialect", ["duckdb", "pyspark", "clickhouse", "trino", "flink", "postgres"]
)
def test_the_definition_is_sql_of_every_engine_we_name(dialect: str):
    text = windows.sql(dialect, datetime.date(2026, 5, 20))
    assert "event_id" in text
    assert text.upper().startswith(("SELECT", "WITH"))


def cdnow_events() -> Events:
    if not CDNOW.exists():
        pytest.skip(f"NOT RUN: the real purchases are not at {CDNOW}")
    with gzip.open(CDNOW, "rt", newline="") as file:
        return [
            (row["event_id"], row["user_id"], datetime.datetime.fromisoformat(row["paid_at"]))
            for row in csv.DictReader(file)
        ]


@pytest.mark.django_db
@pytest.mark.usefixtures("redis")
def test_all_real_purchases_are_imported_and_counted_alike_on_many_days(capsys):
    from django.core.management import call_command

    from cohorts.models import PaymentEvent

    events = cdnow_events()
    call_command("import_payments", CDNOW, "--as-of", "1997-03-01", verbosity=0)
    printed = capsys.readouterr().out
    assert "69,659 rows: 69,659 accepted, 0 duplicates, 0 rejected." in printed
    assert PaymentEvent.objects.count() == 69_659
    per_day: dict[datetime.date, Counter[str]] = defaultdict(Counter)
    for _, user, moment in events:
        per_day[moment.astimezone(SHANGHAI).date()][user] += 1
    first = datetime.date(1997, 1, 1)
    days = [first + DAY * number for number in (0, 1, 5, 6, 7, 28, 29, 30, 31, *range(58, 570, 36))]
    assert len(days) >= 20
    for day in days:
        weekly: Counter[str] = Counter()
        monthly: Counter[str] = Counter()
        for ago in range(30):
            monthly.update(per_day[day - DAY * ago])
            if ago < 7:
                weekly.update(per_day[day - DAY * ago])
        expected = {user: (weekly[user], count) for user, count in monthly.items()}
        live = selectors.counts_on(day)
        assert {user: (each.weekly, each.monthly) for user, each in live.items()} == expected
    assert windows.counts_of_files(str(CDNOW), days[-5]) == {
        user: (each.weekly, each.monthly) for user, each in selectors.counts_on(days[-5]).items()
    }
    call_command("import_payments", CDNOW, verbosity=0)
    assert "was imported before: nothing changed" in capsys.readouterr().out
    call_command("import_payments", CDNOW, "--again", verbosity=0)
    assert "0 accepted, 69,659 duplicates" in capsys.readouterr().out
