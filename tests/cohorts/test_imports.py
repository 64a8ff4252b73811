"""Files in: told by content, resumed after a kill, every rejected row listed."""

from __future__ import annotations

import csv
import gzip
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from django.core.management import CommandError, call_command

from cohorts.models import Attribute, DailyPayments, ImportJob, PaymentEvent, Profile
from cohorts.services import files, imports, ingest
from huidu.errors import StateError
from tests.cohorts.conftest import NOW

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]

HEAD = "event_id,user_id,paid_at,amount_cny\n"


@pytest.fixture
def home(tmp_path, settings) -> Path:
    """Reports go to a home of the test's own."""
    settings.ENV = settings.ENV.model_copy(update={"home": tmp_path / "home"})
    return tmp_path / "home"


@pytest.fixture
def run(home, capsys):
    def run(name: str, *arguments: object) -> str:
        call_command(name, *arguments, verbosity=0)
        return capsys.readouterr().out

    return run


def payments_file(folder: Path, rows: int, name: str = "payments.csv") -> Path:
    lines = [f"e{i},u{i % 97},2026-05-{1 + i % 19:02d}T10:00:00+08:00,1.25\n" for i in range(rows)]
    file = folder / name
    file.write_text(HEAD + "".join(lines), encoding="utf-8")
    return file


def test_a_second_import_of_the_same_bytes_changes_nothing_and_says_so(run, tmp_path):
    file = payments_file(tmp_path, 300)
    assert "300 rows: 300 accepted" in run("import_payments", file)
    moved = file.rename(tmp_path / "renamed.csv")
    assert "was imported before: nothing changed" in run("import_payments", moved)
    assert PaymentEvent.objects.count() == 300


def test_a_killed_import_goes_on_where_it_stopped(run, tmp_path, monkeypatch):
    file = payments_file(tmp_path, 250)
    monkeypatch.setattr(files, "BATCH", 100)
    real = ingest.ingest_payments
    calls = []

    def killed(*given, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given, **options)

    monkeypatch.setattr(imports, "ingest_payments", killed)
    with pytest.raises(KeyboardInterrupt):
        run("import_payments", file)
    job = ImportJob.objects.get()
    assert (job.state, job.offset, PaymentEvent.objects.count()) == ("running", 200, 200)
    out = run("import_payments", file)
    assert "Went on after row 200." in out
    assert "250 rows: 250 accepted, 0 duplicates" in out


def test_a_batch_and_its_offset_are_one_transaction(run, tmp_path, monkeypatch):
    file = payments_file(tmp_path, 50)
    real = imports._list_rejected
    monkeypatch.setattr(imports, "_list_rejected", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("import_payments", file)
    assert not PaymentEvent.objects.exists()
    assert ImportJob.objects.get().offset == 0
    monkeypatch.setattr(imports, "_list_rejected", real)
    assert "50 accepted" in run("import_payments", file)


def test_of_two_importers_of_one_file_one_is_told(home, tmp_path, monkeypatch):
    file = payments_file(tmp_path, 20)
    real = ingest.ingest_payments

    def other_moves_first(*given, **options):
        ImportJob.objects.update(offset=20, accepted=20)
        return real(*given, **options)

    monkeypatch.setattr(imports, "ingest_payments", other_moves_first)
    plan = imports.Plan(kind="payments", path=file, reports=home)
    with pytest.raises(StateError, match="another process"):
        imports.import_file(plan, NOW)
    assert not PaymentEvent.objects.exists()


def test_rejected_rows_are_listed_with_line_and_reason(run, home, tmp_path):
    file = tmp_path / "odd.csv"
    file.write_text(
        HEAD
        + "e1,u1,2026-05-20T10:00:00+08:00,5\n"
        + "e2,u1,2026-05-20T10:00:00+08:00,-5\n"
        + "e3,,2026-05-20T10:00:00+08:00,5\n"
        + "e4,u1,20.05.2026,5\n"
        + "e5,u1\n"
        + "e6,u1,2026-05-20 10:00:00,5\n"
    )
    out = run("import_payments", file)
    assert "6 rows: 1 accepted, 0 duplicates, 5 rejected" in out
    report = next((home / "imports").glob("*-rejected.csv"))
    assert str(report) in out
    rows = [(row["line"], row["code"]) for row in csv.DictReader(report.open())]
    assert rows == [
        ("3", "amount_cny.negative"),
        ("4", "user_id.missing"),
        ("5", "paid_at.invalid"),
        ("6", "row.broken"),
        ("7", "paid_at.zone_missing"),
    ]


def test_a_zone_reads_moments_without_an_offset_and_bare_days(run, tmp_path):
    file = tmp_path / "naive.csv"
    file.write_text("event_id,user_id,paid_at\ne1,u1,2026-05-20 00:00:00\ne2,u1,2026-05-20\n")
    assert "2 accepted" in run("import_payments", file, "--zone", "Asia/Shanghai")
    assert DailyPayments.objects.get().count == 2


def test_columns_are_told_by_usual_names_or_by_map(run, tmp_path):
    file = tmp_path / "named.csv"
    file.write_text(
        "流水号,openid,支付时间,amount\ne1,u1,2026-05-20T10:00:00Z,7\n", encoding="utf-8-sig"
    )
    assert "Columns not used: amount" in run("import_payments", file)
    out = run("import_payments", file, "--map", "amount=amount_cny", "--again")
    assert "Columns not used" not in out
    with pytest.raises(CommandError, match="--map price=amount_cny: expected one of"):
        run("import_payments", file, "--map", "price=amount_cny")


def test_an_amount_of_zero_is_a_payment(run, tmp_path):
    file = tmp_path / "free.csv"
    file.write_text(HEAD + "e1,u1,2026-05-20T10:00:00Z,0.00\n")
    run("import_payments", file)
    assert DailyPayments.objects.get().amount == Decimal(0)


def test_gzip_and_parquet_are_told_by_content(run, tmp_path):
    plain = payments_file(tmp_path, 120)
    packed = tmp_path / "looks-like.txt"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert "120 accepted" in run("import_payments", packed)
    table = pyarrow.table(
        {
            "event_id": [1, 2],
            "user_id": ["u1", "u2"],
            "paid_at": pyarrow.array([NOW, NOW], pyarrow.timestamp("us", "UTC")),
            "amount_cny": [1.1, None],
        }
    )
    parquet = tmp_path / "payments.data"
    pyarrow.parquet.write_table(table, parquet)
    assert "2 rows: 2 accepted" in run("import_payments", parquet)
    assert PaymentEvent.objects.get(pk="1").amount_cny == Decimal("1.10")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("编号,用户\n1,张三\n".encode("gb18030"), "looks like GBK", id="GBK"),
        pytest.param("event_id,user_id\n".encode("utf-16"), "UTF-16", id="UTF-16"),
        pytest.param(
            ("a,b\n" * 9).encode("utf-16-le"), "without its byte order mark", id="bare UTF-16"
        ),
        pytest.param(b"PK\x03\x04....", "Excel", id="Excel"),
        pytest.param(bytes(range(256)) * 9, "binary", id="binary"),
        pytest.param(
            b"event_id,user_id,paid_at\n" + b"x" * 1_200_000, "line 2: expected", id="long"
        ),
        pytest.param(
            HEAD.encode() + b'e1,"u' + b"x" * 200_000 + b'",,\n', "line 2: field", id="cell"
        ),
        pytest.param(b"", "column names", id="empty"),
        pytest.param(b"a,a\n", "twice: a", id="two columns of one name"),
        pytest.param(b"a,b\n1,2\n", "--map NAME=event_id", id="other columns"),
        pytest.param(b"\x1f\x8bnot gzip", "gzip", id="broken gzip"),
        pytest.param(b"PAR1 not parquet", "Parquet", id="broken Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_a_clear_sentence(run, tmp_path, content, words):
    file = tmp_path / "odd"
    file.write_bytes(content)
    with pytest.raises(CommandError, match=words):
        run("import_payments", file)
    assert not PaymentEvent.objects.exists()


def test_gbk_is_read_when_asked_for(run, tmp_path):
    file = tmp_path / "gbk.csv"
    file.write_bytes("流水号,用户,支付时间\ne1,张三,2026-05-20T10:00:00+08:00\n".encode("gbk"))
    run("import_payments", file, "--encoding", "gb18030")
    assert PaymentEvent.objects.get().user_id == "张三"


def test_a_cut_gzip_keeps_what_was_whole_and_fails_with_its_line(run, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BATCH", 100)
    whole = gzip.compress(payments_file(tmp_path, 5_000).read_bytes())
    file = tmp_path / "cut.csv.gz"
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CommandError, match="after line"):
        run("import_payments", file)
    job = ImportJob.objects.get()
    assert job.state == "failed"
    assert job.offset == PaymentEvent.objects.count() > 0


def test_profiles_are_typed_by_the_registry(run, home, tmp_path):
    Attribute.objects.create(name="tags", type="strings")
    file = tmp_path / "people.csv"
    file.write_text(
        "uid,region,staff,age,assets_cny,registered_at,risk_score,tags,nickname\n"
        "u1,440300,否,33,1500.50,2015-06-01,12.5,beta|灰度,小王\n"
        "u2,,true,,,,,,\n"
        "u3,Shenzhen,,,,,,,\n",
        encoding="utf-8",
    )
    out = run("import_profiles", file, "--map", "uid=user_id")
    assert "3 rows: 2 accepted, 0 duplicates, 1 rejected" in out
    assert "Columns not used: nickname" in out
    row = Profile.objects.get(pk="u1")
    assert (row.region, row.staff, row.age) == ("440300", False, 33)
    assert (row.assets_cny, row.attributes) == (Decimal("1500.50"), {"tags": ["beta", "灰度"]})
    assert Profile.objects.get(pk="u2").staff is True
    assert Profile.objects.get(pk="u2").region is None


def test_the_line_in_another_encoding_is_named(run, tmp_path):
    file = tmp_path / "late.csv"
    rows = "".join(f"e{i},u{i},2026-05-20T10:00:00Z,1\n" for i in range(20))
    file.write_bytes(HEAD.encode() + rows.encode() + "e99,张三,,\n".encode("gbk"))
    with pytest.raises(CommandError, match=r"line 22: expected utf-8.*pass --encoding gb18030"):
        run("import_payments", file)
    file.write_text(HEAD + "e1,张三,2026-05-20T10:00:00Z,1\n", encoding="utf-8")
    with pytest.raises(CommandError, match="line 2: it looks like UTF-8, not gb18030"):
        run("import_payments", file, "--encoding", "gb18030")
    assert PaymentEvent.objects.count() == 0


def test_odd_cells_are_rejected_by_their_own_lines(run, home, tmp_path):
    file = tmp_path / "odd.csv"
    at = "2026-05-20T10:00:00Z"
    file.write_text(
        HEAD + f'\n"e\n1",u1,{at},1\ne2,"u\0 2",{at},1\n\n=cmd(),u3,{at},-1\ne4,u4,{at},1\n'
    )
    assert "1 accepted, 0 duplicates, 3 rejected" in run("import_payments", file)
    report = next((home / "imports").glob("*-rejected.csv"))
    rows = list(csv.DictReader(report.open()))
    assert [(row["row"], row["line"]) for row in rows] == [("1", "3"), ("2", "5"), ("3", "7")]
    assert rows[2]["cells"].startswith("event_id==cmd()")


def test_the_list_of_rejected_rows_is_bounded(run, home, tmp_path, monkeypatch):
    monkeypatch.setattr(imports, "MOST_REJECTED", 3)
    file = tmp_path / "bad.csv"
    file.write_text(HEAD + "e1,,,\n" * 10)
    assert "10 rejected" in run("import_payments", file)
    report = next((home / "imports").glob("*-rejected.csv"))
    assert len(report.read_text().splitlines()) == 4
