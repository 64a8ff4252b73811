"""`roll_windows`: new files cost their own work, a kill loses nothing, drift is told and mended."""

from __future__ import annotations

import csv
import datetime
import io
from collections import Counter
from pathlib import Path

import duckdb
import ibis
import pytest
from django.core.management import CommandError, call_command

from cohorts import selectors, windows
from cohorts.management.commands import roll_windows
from cohorts.models import DailyPayments, DirtyProfile, PaymentEvent, Profile
from cohorts.services import engines, reconcile, tile_sources, tile_store, tiles
from cohorts.services.ingest import ingest_payments, ingest_profiles
from huidu.errors import InputError, StateError
from tests.cohorts.conftest import NOW, TODAY

DAY = datetime.timedelta(days=1)


def write(path: Path, *rows: tuple[str, str, str, str]) -> Path:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["event_id", "user_id", "paid_at", "amount_cny"])
        out.writerows(rows)
    return path


def pay(event: str, user: str, moment: str = "2026-05-20T10:00:00+08:00", amount: str = "1"):
    return event, user, moment, amount


@pytest.fixture
def duck(tmp_path):
    made = engines.engine("duckdb", memory="500MB", scratch=tmp_path / "scratch", spark_master="")
    yield made
    made.close()


@pytest.fixture
def store(tmp_path):
    with tile_store.Store(tmp_path / "tiles").opened() as opened:
        yield opened


def counts(store: tile_store.Store, engine: engines.Engine) -> dict[tuple[str, datetime.date], int]:
    table = store.tiles(engine, [batch.part for batch in store.state.batches])
    sums = table.group_by(["user_id", "day"]).aggregate(count=table["count"].sum())
    return {(row["user_id"], row["day"]): int(row["count"]) for row in engine.rows(sums)}


def test_one_more_file_reads_no_earlier_tile_and_counts_only_what_is_new(store, duck, tmp_path):
    first = write(tmp_path / "a.csv", pay("1", "u"), pay("2", "u"), pay("2", "u"))
    tiles.update(store, duck, tile_sources.Plan(paths=[first]))
    (part,) = (store.path(batch.part) for batch in store.state.batches)
    before = part.stat().st_mtime_ns
    late = write(
        tmp_path / "b.csv",
        pay("2", "u"),  # again, in another file
        pay("3", "u"),
        pay("4", "v", "2026-04-16T00:00:00+08:00"),  # 34 days late
        pay("5", "u", amount="-3"),
        pay("", "u"),
        pay("6", "u", "2026-05-20 10:00:00"),
        pay("7", "u", amount="much"),
    )
    found = tiles.update(store, duck, tile_sources.Plan(paths=[first, late]))
    assert (found.files, found.rows, found.counted) == (1, 7, 2)
    assert (found.duplicates, found.refunds, found.unreadable) == (1, 1, 3)
    assert counts(store, duck) == {("u", TODAY): 3, ("v", TODAY - 34 * DAY): 1}
    assert part.stat().st_mtime_ns == before
    assert tiles.update(store, duck, tile_sources.Plan(paths=[first, late])).files == 0


def test_a_file_that_changed_is_counted_again_with_those_that_relied_on_it(store, duck, tmp_path):
    first = write(tmp_path / "a.csv", pay("1", "u"), pay("2", "u"))
    second = write(tmp_path / "b.csv", pay("2", "u"), pay("3", "u"))
    other = write(tmp_path / "c.csv", pay("9", "w", "2026-05-01T10:00:00+08:00"))
    for paths in ([first], [first, other], [first, other, second]):
        tiles.update(store, duck, tile_sources.Plan(paths=paths))
    kept = store.state.batches[1].part
    write(first, pay("1", "u"), pay("4", "x"))  # event 2 now stands only in the second file
    found = tiles.update(store, duck, tile_sources.Plan(paths=[first, other, second]))
    assert sorted(Path(name).name for name in found.again) == ["a.csv", "b.csv"]
    assert store.state.batches[0].part == kept
    assert counts(store, duck)[("u", TODAY)] == 3
    write(first, pay("1", "u"))
    with pytest.raises(InputError, match=r"b\.csv, which has payments of the same days"):
        tiles.update(store, duck, tile_sources.Plan(paths=[first, other]))


def test_a_run_that_dies_between_two_batches_goes_on_and_counts_each_once(
    store, duck, tmp_path, monkeypatch
):
    monkeypatch.setattr(tiles, "BATCH_ROWS", 3)
    paths = [
        write(tmp_path / f"{n}.csv", pay(f"{n}a", "u"), pay(f"{n}b", "v"), pay("0a", "u"))
        for n in range(4)
    ]
    plan = tile_sources.Plan(paths=paths)
    rename = Path.replace

    def dies(path: Path, target: Path) -> Path:
        if len(store.state.batches) == 3:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            tiles.update(store, duck, plan)
    again = tile_store.Store(store.folder)
    with pytest.raises(StateError, match="another process"), again.opened():
        pass
    again._load()  # as the next run does; the lock is this test's own
    assert len(again.state.batches) == 2
    assert len(list(store.folder.glob("tiles-*"))) == 2  # the unnamed one is removed
    assert tiles.update(again, duck, plan).files == 2
    assert counts(again, duck) == {("u", TODAY): 4, ("v", TODAY): 4}


def test_moments_without_an_offset_need_a_zone_also_in_parquet(store, duck, tmp_path):
    path = tmp_path / "naive.parquet"
    duckdb.execute(
        "COPY (SELECT 1 AS uid, 'e' || i AS id, TIMESTAMP '2026-05-20 00:00:00' AS pay_time"
        f" FROM range(3) t(i)) TO '{path}' (FORMAT parquet)"
    )
    with pytest.raises(InputError, match="pay_time holds moments without an offset"):
        tiles.update(store, duck, tile_sources.Plan(paths=[path]))
    tiles.update(store, duck, tile_sources.Plan(paths=[path], zone="Asia/Shanghai"))
    assert counts(store, duck) == {("1", TODAY): 3}


@pytest.mark.parametrize(
    "payers", [pytest.param(1000, id="kept as they are"), pytest.param(3, id="summed")]
)
def test_tiles_of_parquet_count_each_event_once_whether_summed_or_not(
    store, duck, tmp_path, monkeypatch, payers
):
    monkeypatch.setattr(tiles, "SAMPLED", 1)
    paths = []
    for number in range(2):  # every other event twice; the second file repeats half of the first
        paths.append(tmp_path / f"{number}.parquet")
        duckdb.execute(
            f"COPY (SELECT 'e' || i AS event_id, 'u' || (i % {payers}) AS user_id,"
            " TIMESTAMPTZ '2026-05-20 02:00:00+00' + to_seconds(n) AS paid_at,"
            " (i - 1)::decimal(18, 2) AS amount_cny"
            f" FROM range({number * 90}, {number * 90 + 180}) t(i), range(2) s(n)"
            f" WHERE n = 0 OR i % 2 = 0) TO '{paths[-1]}' (FORMAT parquet)"
        )
        found = tiles.update(store, duck, tile_sources.Plan(paths=paths))
        assert (found.rows, found.refunds) == (270, 2 if number == 0 else 0)
        table = store.tiles(duck, [store.state.batches[-1].part])
        ((told),) = duck.rows(table.aggregate(rows=table.count(), counted=table["count"].sum()))
        new = 179 if number == 0 else 90
        assert (told["counted"], found.counted) == (new, new)
        assert told["rows"] == min(new, payers)
    expected = Counter((f"u{each % payers}", TODAY) for each in range(1, 270))
    assert counts(store, duck) == expected
    windows_of = duck.parquet([store.path(tiles.roll(store, duck, TODAY).part)])
    spent = {row["user_id"]: row["yearly_cny"] for row in duck.rows(windows_of)}
    assert sum(spent.values()) == sum(each - 1 for each in range(1, 270))


def run(*arguments: object) -> str:
    told = io.StringIO()
    call_command("roll_windows", *map(str, arguments), stdout=told, stderr=io.StringIO())
    return told.getvalue()


@pytest.fixture
def drifted(tmp_path, db):
    """Live: u1 twice, u2 once too often, u3 right. The warehouse: u1 three times, u4 once."""
    moment = "2026-05-20T10:00:00+08:00"
    ingest_payments(
        [
            {"event_id": event, "user_id": user, "paid_at": moment, "amount_cny": 1}
            for event, user in [("1", "u1"), ("2", "u1"), ("3", "u2"), ("4", "u2"), ("5", "u3")]
        ],
        NOW,
        pack=False,
    )
    DirtyProfile.objects.all().delete()
    path = write(
        tmp_path / "all.csv",
        *(pay(event, "u1") for event in ("1", "2", "6")),
        pay("3", "u2"),
        pay("5", "u3"),
        pay("7", "u4"),
        pay("8", "u4", "2026-05-10T10:00:00+08:00"),  # before the files are complete
    )
    return [path, "--tiles", tmp_path / "tiles", "--as-of", "2026-05-20"]


def test_drift_is_told_and_changes_nothing_unless_asked(drifted, tmp_path):
    with pytest.raises(CommandError, match="expected --complete-from DAY"):
        run(*drifted)
    told = run(*drifted, "--complete-from", "2026-05-15", "--report", tmp_path / "drift.csv")
    assert "As of 2026-05-20: 4 users paid in 7 days (6 payments), 4 in 30 days" in told
    assert (
        "2026-05-15 to 2026-05-20: 3 of 4 users differ, on 3 days of theirs; at most by 1" in told
    )
    assert "2 payments are not held, 1 are held but not in the files" in told
    assert len((tmp_path / "drift.csv").read_text().splitlines()) == 4
    assert selectors.counts_on(TODAY)["u1"].weekly == 2


def test_apply_brings_live_counts_in_line_and_is_safe_to_repeat(drifted, monkeypatch):
    answers = iter(["no", "yes"])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    drifted += ["--complete-from", "2026-05-15", "--apply"]
    with pytest.raises(CommandError, match="nothing was changed"):
        run(*drifted)
    assert "3 differing days brought in line." in run(*drifted)
    held = {user: each.weekly for user, each in selectors.counts_on(TODAY).items()}
    assert held == {"u1": 3, "u2": 1, "u3": 1, "u4": 1}
    assert Profile.objects.filter(user_id="u4").exists()
    assert set(DirtyProfile.objects.values_list("user_id", flat=True)) == {"u1", "u2", "u4"}
    assert PaymentEvent.objects.count() == 5
    assert "0 of 4 users differ" in run(*drifted)


def test_only_raise_lowers_nobody(drifted):
    run(*drifted, "--complete-from", "2026-05-15", "--apply", "--only-raise", "--yes")
    assert selectors.counts_on(TODAY)["u2"].weekly == 2
    assert selectors.counts_on(TODAY)["u1"].weekly == 3


def test_a_payment_that_arrives_between_comparing_and_applying_is_kept(drifted, monkeypatch):
    apply = reconcile.Comparison.apply

    def late(self, *args, **kwargs):
        more = {"event_id": "late", "user_id": "u1", "paid_at": "2026-05-20T11:00:00+08:00"}
        ingest_payments([more], NOW, pack=False)
        return apply(self, *args, **kwargs)

    monkeypatch.setattr(reconcile.Comparison, "apply", late)
    told = run(*drifted, "--complete-from", "2026-05-15", "--apply", "--yes")
    assert "2 differing days brought in line; 1 moved meanwhile" in told
    assert selectors.counts_on(TODAY)["u1"].weekly == 3


def test_a_day_the_files_lack_is_unknown_and_not_zero(drifted):
    """Silence is never consent: a missing file must not take anybody's payments away."""
    DailyPayments.objects.create(user_id="u3", day=TODAY - DAY, count=4)
    run(*drifted, "--complete-from", "2026-05-15", "--apply", "--yes")
    assert DailyPayments.objects.get(user_id="u3", day=TODAY - DAY).count == 4


def test_yearly_spend_needs_a_whole_year_and_reaches_the_profile(drifted):
    ingest_profiles([{"user_id": "u1", "yearly_spend_cny": 700}], NOW, pack=False)
    with pytest.raises(CommandError, match="needs payments from 2025-05-21 on"):
        run(*drifted, "--complete-from", "2026-05-15", "--spend")
    run(*drifted, "--complete-from", "2025-05-01", "--spend", "--apply", "--yes")
    assert Profile.objects.get(user_id="u1").yearly_spend_cny == 3


def test_the_guide_shows_the_sql_of_today():
    guide = Path(__file__).parents[2] / "docs" / "guides" / "windows.md"
    text = guide.read_text()
    for dialect in ("clickhouse", "pyspark", "trino"):
        assert f"```sql\n{windows.tiles_sql(dialect)}\n```" in text, dialect
    assert "day" in windows.sql("duckdb", TODAY)


def test_a_zone_with_summer_time_and_a_missing_engine_are_said_clearly(settings, tmp_path):
    with pytest.raises(InputError, match="no fixed offset"):
        roll_windows._fixed_offset("Europe/Berlin")
    with pytest.raises(InputError, match="expected an engine of duckdb, spark"):
        engines.engine("flink", memory="1GB", scratch=tmp_path, spark_master="")
    with pytest.raises(CommandError, match="expected files of payments, found none at"):
        run(tmp_path / "nothing")


def test_an_engines_cheaper_day_is_the_day(duck):
    moments = [
        datetime.datetime.fromisoformat(text)
        for text in (
            "2026-05-19T15:59:59.999999+00:00",
            "2026-05-19T16:00:00+00:00",
            "1969-12-31T15:59:59.999999+00:00",
            "1969-12-31T16:00:00+00:00",
            "0001-01-02T00:00:00+00:00",
            "9998-12-31T23:59:59.999999+00:00",
        )
    ]
    table = ibis.memtable({"paid_at": moments}, schema={"paid_at": "timestamp('UTC')"})
    for offset in (windows.SHANGHAI, datetime.timedelta(hours=-5), datetime.timedelta(0)):
        days = table.select(
            "paid_at",
            cheap=duck.day_of(table.paid_at, offset),
            plain=windows.day_of(table.paid_at, offset),
        )
        for row in duck.rows(days):
            expected = (row["paid_at"].replace(tzinfo=None) + offset).date()
            assert row["cheap"] == row["plain"] == expected


def test_a_moment_without_end_is_no_payment(store, duck, tmp_path):
    path = write(tmp_path / "a.csv", pay("1", "u", "infinity"), pay("2", "u"))
    found = tiles.update(store, duck, tile_sources.Plan(paths=[path], zone="Asia/Shanghai"))
    assert (found.counted, found.unreadable, found.duplicates) == (1, 1, 0)
    assert counts(store, duck) == {("u", TODAY): 1}


@pytest.mark.parametrize("many_rows", [100_000, 1])
def test_a_row_of_parquet_that_lacks_several_things_is_one_unreadable_row(
    store, duck, tmp_path, monkeypatch, many_rows
):
    monkeypatch.setattr(tile_sources, "MANY_ROWS", many_rows)
    path = tmp_path / "a.parquet"
    duckdb.connect().execute(
        f"""SET TimeZone = 'UTC'; COPY (
            SELECT event_id, user_id, amount::DOUBLE AS amount_cny,
                   CASE WHEN timed THEN TIMESTAMPTZ '2026-05-20 10:00:00+00' END AS paid_at
            FROM (VALUES
                ('1', 'u', true, '5'), ('1', 'u', true, '5'), ('5', 'u', true, '-5'),
                (NULL, NULL, true, '5'), (NULL, NULL, NULL, NULL), (NULL, 'u', true, '-5'),
                ('', 'u', true, '5'), ('2', '', true, '5'), ('3', 'u', true, 'nan'),
                ('4', 'u', NULL, '5'), ('6', 'u', true, NULL)
            ) AS t(event_id, user_id, timed, amount)
        ) TO '{path}' (FORMAT parquet)"""
    )
    found = tiles.update(store, duck, tile_sources.Plan(paths=[path]))
    assert (found.rows, found.counted, found.duplicates) == (11, 2, 1)
    assert (found.refunds, found.unreadable) == (1, 7)


def parquet(path: Path, first: int, last: int, days: int = 3) -> Path:
    """Payments `first` to `last`, every other one a repeat."""
    duckdb.connect().execute(
        f"""SET TimeZone = 'UTC'; COPY (
            SELECT 'e' || (i // 2)::text AS event_id, 'u' || (i // 2 * 7 % 90)::text AS user_id,
                   TIMESTAMPTZ '2026-05-18 17:00:00+00'
                   + to_hours((i // 2 * 5 % (24 * {days}))::int) AS paid_at,
                   (i // 2 % 9)::decimal(18, 2) AS amount_cny
            FROM range({first}, {last}) t(i)
        ) TO '{path}' (FORMAT parquet)"""
    )
    return path


def test_large_files_that_tell_their_days_are_counted_as_if_they_were_read(
    duck, tmp_path, monkeypatch
):
    paths = [parquet(tmp_path / f"{n}.parquet", n * 90, n * 90 + 120) for n in (0, 1)]
    found = []
    for rows in (tile_sources.MANY_ROWS, 10):
        monkeypatch.setattr(tile_sources, "MANY_ROWS", rows)
        with tile_store.Store(tmp_path / f"tiles-{rows}").opened() as store:
            made = tiles.update(store, duck, tile_sources.Plan(paths=paths))
            found.append((made, counts(store, duck)))
    assert found[0] == found[1]
    assert (found[0][0].rows, found[0][0].counted) == (240, 105)


def test_a_file_of_many_days_is_read_to_learn_which(duck, tmp_path, monkeypatch):
    monkeypatch.setattr(tile_sources, "MANY_ROWS", 10)
    path = parquet(tmp_path / "long.parquet", 0, 40, days=tile_sources.MOST_DAYS + 2)
    with tile_store.Store(tmp_path / "tiles").opened() as store:
        found = tiles.update(store, duck, tile_sources.Plan(paths=[path]))
    assert len(found.days) <= 20
