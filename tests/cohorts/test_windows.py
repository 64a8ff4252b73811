"""One definition of the windows: live rows, every engine, tiles and a count by hand agree."""

from __future__ import annotations

import csv
import datetime
import gzip
import random
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest
from django.db import connection
from django.db.models import Sum

from cohorts import selectors, windows
from cohorts.models import DailyPayments
from cohorts.services import engines, packing, tile_sources, tile_store, tiles
from cohorts.services.ingest import ingest_payments
from huidu.errors import InputError
from tests.cohorts.conftest import NOW

CDNOW = Path(__file__).resolve().parents[3] / "shared" / "data" / "cdnow_purchases.csv.gz"
SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = datetime.timedelta(days=1)

FIRST = datetime.date(2026, 3, 20)

Events = list[tuple[str, str, datetime.datetime, Decimal]]
Windows = dict[str, tuple[int, int, Decimal]]


def by_hand(events: Events, day: datetime.date) -> Windows:
    """Weekly and monthly payments and yearly spend, counted the slow and obvious way."""
    first: dict[str, tuple[str, datetime.datetime, Decimal]] = {}
    for event_id, user_id, paid_at, amount in events:
        if amount >= 0:
            first.setdefault(event_id, (user_id, paid_at, amount))
    found: Windows = {}
    for user_id, paid_at, amount in first.values():
        ago = (day - paid_at.astimezone(SHANGHAI).date()).days
        weekly, monthly, spent = found.get(user_id, (0, 0, Decimal(0)))
        spent += amount if 0 <= ago < 365 else 0
        found[user_id] = (weekly + (0 <= ago < 7), monthly + (0 <= ago < 30), spent)
    return {user: figures for user, figures in found.items() if any(figures)}


def generated(chance: random.Random) -> list[Events]:
    """Six arrivals, ten days each: payments around midnights of Shanghai, 3 % late up to 35 days,
    repeats in the same arrival and in later ones, refunds, no order."""
    midnight = datetime.datetime(2026, 3, 19, 16, 0, tzinfo=datetime.UTC)
    arrivals: list[Events] = []
    number = 0
    for start in range(0, 60, 10):
        events: Events = []
        for _ in range(250):
            number += 1
            edge = chance.choice([-1, 0, 1, 1_000_000 * chance.randint(1, 86_399)])
            late = chance.randint(1, 35) if chance.random() < 0.03 else 0
            days = max(start + chance.randint(0, 9) - late, 0)
            moment = midnight + DAY * days + datetime.timedelta(microseconds=edge)
            cents = chance.choice([0, chance.randint(1, 99_999), -chance.randint(1, 500)])
            user = f"u{chance.randint(0, 60)}"
            events.append((f"e{number}", user, moment, Decimal(cents) / 100))
        events += chance.sample(events, 20)
        for earlier in arrivals:
            events += chance.sample(earlier, 5)
        chance.shuffle(events)
        arrivals.append(events)
    return arrivals


def write_csv(path: Path, events: Events) -> Path:
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["event_id", "user_id", "paid_at", "amount_cny"])
        writer.writerows([e, user, moment.isoformat(), a] for e, user, moment, a in events)
    return path


def raw_windows(engine: engines.Engine, paths: list[Path], day: datetime.date) -> Windows:
    """From the raw payments in one query."""
    columns = {name: name for name in windows.EVENTS.names}
    events = engines.events(engine, paths, columns, None)
    return read(engine, windows.windows(windows.tiles(events), day))


def read(engine: engines.Engine, table) -> Windows:
    return {
        row["user_id"]: (row["weekly"], row["monthly"], row["yearly_cny"])
        for row in engine.rows(table)
    }


def rolled(store: tile_store.Store, engine: engines.Engine, day: datetime.date) -> Windows:
    return read(engine, engine.parquet([store.path(tiles.roll(store, engine, day).part)]))


def live(day: datetime.date) -> Windows:
    """From the daily counts that live ingest keeps."""
    year = DailyPayments.objects.filter(day__gt=day - 365 * DAY, day__lte=day)
    spent = dict(year.values_list("user_id").annotate(spent=Sum("amount")))
    counts = selectors.counts_on(day)
    none = selectors.Counts(0, 0)
    found = {
        user: (counts.get(user, none).weekly, counts.get(user, none).monthly, amount)
        for user, amount in spent.items()
    }
    return {user: figures for user, figures in found.items() if any(figures)}


@pytest.fixture(params=["duckdb", "spark"])
def any_engine(request, tmp_path):
    made = None
    try:
        made = engines.engine(
            request.param, memory="1GB", scratch=tmp_path / "scratch", spark_master="local[1]"
        )
    except InputError as error:
        pytest.skip(f"NOT RUN on {request.param}: {error}")
    yield made
    made.close()


@pytest.mark.django_db
def test_live_rows_engines_tiles_packed_records_and_a_count_by_hand_agree(
    any_engine, tmp_path, packed
):
    """Payments arrive over 60 days, by file and live: repeated, late, without order, refunded."""
    with connection.cursor() as cursor:  # Spark may take its time between two batches
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    arrivals = generated(random.Random(1))
    folder = tmp_path / "raw"
    folder.mkdir()
    store = tile_store.Store(tmp_path / "tiles")
    known: Events = []
    paths: list[Path] = []
    with store.opened():
        for number, events in enumerate(arrivals):
            known += events
            ingest_payments(
                [
                    {"event_id": e, "user_id": user, "paid_at": moment.isoformat(), "amount_cny": a}
                    for e, user, moment, a in events
                ],
                NOW,
            )
            paths.append(write_csv(folder / f"arrived-{number:02d}.csv", events))
            day = FIRST + DAY * (10 * number + 9)
            plan = tile_sources.Plan(paths=paths)
            found = tiles.update(store, any_engine, plan)
            assert (found.files, found.rows) == (1, len(events))
            expected = by_hand(known, day)
            assert live(day) == expected
            assert rolled(store, any_engine, day) == expected
            if number == len(arrivals) - 1:
                assert raw_windows(any_engine, paths, day) == expected
                assert rolled(store, any_engine, day + 3 * DAY) == by_hand(known, day + 3 * DAY)
    packing.drain_dirty()
    newest = max(moment for _, _, moment, _ in known).astimezone(SHANGHAI).date()
    expected = by_hand(known, newest)
    for user in {user for _, user, _, _ in known}:
        facts = packed(user, newest).attributes
        counted = (facts["weekly_payments"], facts["monthly_payments"])
        assert counted == expected.get(user, (0, 0, 0))[:2]


def test_parquet_is_read_alike_by_every_engine(any_engine, tmp_path):
    """Moments in UTC, one around midnight of Shanghai; what is missing; an amount that is none."""
    path = tmp_path / "a.parquet"
    duckdb.connect().execute(
        f"""SET TimeZone = 'UTC'; COPY (
            SELECT event_id, user_id, amount::DOUBLE AS amount_cny,
                   ('2026-05-' || time || ':00+00')::TIMESTAMPTZ AS paid_at
            FROM (VALUES
                ('1', 'u', '19 15:59', '5'), ('1', 'u', '19 15:59', '5'),
                ('2', 'u', '19 16:00', NULL), ('3', 'u', NULL, '5'), ('4', 'u', '20 10:00', 'nan'),
                ('5', 'u', '20 10:00', '-5'), (NULL, NULL, '20 10:00', '5'),
                ('', 'u', '20 10:00', '5')
            ) AS t(event_id, user_id, time, amount)
        ) TO '{path}' (FORMAT parquet)"""
    )
    store = tile_store.Store(tmp_path / "tiles")
    with store.opened():
        found = tiles.update(store, any_engine, tile_sources.Plan(paths=[path]))
        assert (found.rows, found.counted, found.duplicates) == (8, 2, 1)
        assert (found.refunds, found.unreadable) == (1, 4)
        table = store.tiles(any_engine, [batch.part for batch in store.state.batches])
        days = {(row["user_id"], row["day"]): row["count"] for row in any_engine.rows(table)}
    assert days == {
        ("u", datetime.date(2026, 5, 19)): 1,
        ("u", datetime.date(2026, 5, 20)): 1,
    }


@pytest.mark.parametrize(
    "dialect", ["duckdb", "pyspark", "clickhouse", "trino", "flink", "postgres"]
)
def test_the_definition_is_sql_of_every_engine_we_name(dialect: str):
    text = windows.sql(dialect, datetime.date(2026, 5, 20))
    assert "event_id" in text
    assert text.upper().startswith(("SELECT", "WITH"))


def cdnow_events() -> list[tuple[str, str, datetime.datetime]]:
    if not CDNOW.exists():
        pytest.skip(f"NOT RUN: the real purchases are not at {CDNOW}")
    with gzip.open(CDNOW, "rt", newline="") as file:
        return [
            (row["event_id"], row["user_id"], datetime.datetime.fromisoformat(row["paid_at"]))
            for row in csv.DictReader(file)
        ]


@pytest.mark.django_db
@pytest.mark.usefixtures("redis")
def test_all_real_purchases_are_imported_and_counted_alike_on_many_days(
    capsys, any_engine, tmp_path
):
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
    store = tile_store.Store(tmp_path / "tiles")
    with store.opened():
        tiles.update(store, any_engine, tile_sources.Plan(paths=[CDNOW]))
        for day in days:
            weekly: Counter[str] = Counter()
            monthly: Counter[str] = Counter()
            for ago in range(30):
                monthly.update(per_day[day - DAY * ago])
                if ago < 7:
                    weekly.update(per_day[day - DAY * ago])
            expected = {user: (weekly[user], count) for user, count in monthly.items()}
            held = selectors.counts_on(day)
            assert {user: (each.weekly, each.monthly) for user, each in held.items()} == expected
            if day in days[2:6] or day in days[-2:]:  # rolled on, and made anew
                found = rolled(store, any_engine, day)
                assert {user: (w, m) for user, (w, m, _) in found.items() if m} == expected
    call_command("import_payments", CDNOW, verbosity=0)
    assert "was imported before: nothing changed" in capsys.readouterr().out
    call_command("import_payments", CDNOW, "--again", verbosity=0)
    assert "0 accepted, 69,659 duplicates" in capsys.readouterr().out
