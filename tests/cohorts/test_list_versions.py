"""Uploads of lists: read line by line, compared before anything changes, applied and taken back."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from datetime import timedelta

import pytest
import redis
from django.db import connection, transaction

from cohorts import memberships
from cohorts.models import DirtyProfile, ListBlock, ListVersion, UserList, UserListMember
from cohorts.services import list_compare, list_uploads, list_versions, lists, packing
from cohorts.services.list_files import MOST_FAULTS, Counts, ListFile
from huidu.errors import InputError, StateError
from huidu.model import User

State = ListVersion.State


def read(content: bytes, encoding: str = "utf-8") -> tuple[list[str], Counts]:
    counts = Counts()
    rows = b"".join(ListFile(io.BytesIO(content), counts, encoding).rows()).decode()
    return [row.replace("\\\\", "\\") for row in rows.split("\n")[:-1]], counts


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"u1\nu2\n", ["u1", "u2"]),
        (b"u1\r\nu2", ["u1", "u2"]),
        (b"\xef\xbb\xbfuser_id\nu1\n", ["u1"]),
        (b"\xef\xbb\xbfu1\nu2\n", ["u1", "u2"]),
        (b'name,User_ID\n"Wang, ""Da""\nsecond line",u1\n', ["u1"]),
        (b"u1\n\n  \n\tu2 \n", ["u1", "u2"]),
        ("用户\n张三\n".encode(), ["张三"]),
        (gzip.compress(b"user_id\nu1\n", mtime=0), ["u1"]),
        (b"a\\b\n", ["a\\b"]),
        (b"\xef\xbb\xbfname;UID\r\nx;u1\r\n", ["u1"]),
        (b"open_id\tname\nu1\tx\n", ["u1"]),
        ("会员号,姓名\nu1,张三\n".encode(), ["u1"]),
        (b'"u1"\n"u2"\n', ["u1", "u2"]),
        (b"u1\nu1\nu1\n", ["u1", "u1", "u1"]),
    ],
)
def test_ids_are_read_from_all_usual_files(content: bytes, found: list[str]) -> None:
    assert read(content)[0] == found


def test_gbk_is_read_when_it_is_said() -> None:
    assert read("用户\n张三\n".encode("gb18030"), "gb18030")[0] == ["张三"]


def test_invalid_lines_are_told_by_number_without_what_stood_there() -> None:
    long = "x" * 129
    content = f'u1\n\n{long}\nu2,more\n"a\nb"\n1.2E+15\nu3\n'.encode()
    found, counts = read(content)
    assert found == ["u1", "u3"]
    assert (counts.rows, counts.empty, counts.invalid) == (2, 1, 4)
    assert [each["line"] for each in counts.faults] == [3, 4, 6, 7]
    assert counts.faults[0]["reason"] == "expected 1 to 128 characters, got 129"
    assert "spreadsheet" in str(counts.faults[3]["reason"])
    assert long not in str(counts.faults)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("用户\n张三\n".encode("gb18030"), "looks like GBK"),
        ("用户\n".encode("utf-16"), "got UTF-16"),
        (b"u1\n\xff\xff\xff\n", "expected UTF-8"),
        (b"PK\x03\x04rest", "Excel"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest", "Excel"),
        (("u1\n" * 9).encode("utf-16-le"), "UTF-16 text without"),
        (b"7z\xbc\xaf\x27\x1crest", "7z archive"),
        (gzip.compress(b"PK\x03\x04rest", mtime=0), "Excel"),
        (bytes(range(256)) * 9, "binary"),
        (b"u1\n" * 50 + "张三\n".encode("gbk") + b"u2\n", "^encoding: line 51: .*looks like GBK"),
        (b'"a\n' + b"x" * 150_000, "lines of at most"),
        (b"a,b\n1,2\n", "a column named user_id"),
        (gzip.compress(b"u1\n" * 1000, mtime=0)[:-12], "whole .gz"),
        (b"x" * 200_000, "lines of at most"),
    ],
)
def test_files_that_cannot_be_read_are_refused_with_a_sentence(content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(content)


def test_the_wrong_choice_of_gbk_is_noticed() -> None:
    with pytest.raises(InputError, match="looks like UTF-8"):
        read("u1\n张三\n".encode(), "gb18030")
    with pytest.raises(InputError, match="mark of UTF-8"):
        read(b"\xef\xbb\xbfu1\n", "gb18030")


def test_a_nul_or_a_damaged_character_makes_one_line_invalid() -> None:
    found, told = read("user_id\nu1\nu\0002\n\ufffd\ufffd\nu3\n".encode())
    assert found == ["u1", "u3"]
    assert [each["line"] for each in told.faults] == [3, 4]


def test_many_invalid_lines_are_counted_and_few_are_told() -> None:
    piece = "".join(f"user-{i}\n" if i % 100 else "bad id,x\n" for i in range(1, 300_001))
    rejected: list[int] = []
    counts = Counts(reject=lambda line, _: rejected.append(line))
    rows = list(ListFile(io.BytesIO(piece.encode()), counts).rows())
    assert (counts.rows, counts.invalid, len(counts.faults)) == (297_000, 3_000, MOST_FAULTS)
    assert sum(each.count(b"\n") for each in rows) == 297_000
    assert rejected[:3] == [100, 200, 300]


@pytest.fixture
def number(db: object) -> int:
    number = UserList.objects.create(key="vip", kind="allow").number
    lists.add_members(number, ["u1", "u2", "u3"])
    DirtyProfile.objects.all().delete()
    return number


def upload(number: int, text: str, **options: str) -> ListVersion:
    file = io.BytesIO(text.encode())
    return list_uploads.upload(number, file, file_name="vip.csv", by="wang", **options)


def apply(version: ListVersion) -> None:
    with transaction.atomic():
        list_versions.begin_apply(version)
    list_versions.carry_on()
    version.refresh_from_db()


def revert(version: ListVersion) -> None:
    list_versions.begin_revert(version)
    list_versions.carry_on()
    version.refresh_from_db()


def members(number: int) -> set[str]:
    rows = UserListMember.objects.filter(list_id=number)
    return set(rows.values_list("user_id", flat=True))


def counts(version: ListVersion) -> tuple[int, ...]:
    return (version.users, version.added, version.removed, version.unchanged, version.duplicates)


def test_a_file_is_compared_and_changes_nothing_yet(number: int) -> None:
    version = upload(number, "u2\nu3\nu4\nu4\n")
    assert counts(version) == (3, 1, 1, 2, 1)
    assert list_versions.sample(version) == {
        "added": ["u4"],
        "changed": [],
        "removed": ["u1"],
    }
    assert members(number) == {"u1", "u2", "u3"}
    assert not DirtyProfile.objects.exists()


@pytest.mark.parametrize(
    ("mode", "expected", "after"),
    [
        ("replace", (2, 1, 2, 1, 0), {"u3", "u4"}),
        ("add", (2, 1, 0, 1, 0), {"u1", "u2", "u3", "u4"}),
        ("remove", (2, 0, 1, 1, 0), {"u1", "u2"}),
    ],
)
def test_applying_does_what_was_compared_and_reverting_undoes_it(
    number: int, mode: str, expected: tuple[int, ...], after: set[str]
) -> None:
    version = upload(number, "u3\nu4\n", mode=mode)
    assert counts(version) == expected
    apply(version)
    row = UserList.objects.get(pk=number)
    assert (version.state, version.applied_as, row.version) == (State.APPLIED, 2, 2)
    assert members(number) == after
    assert row.size == len(after)
    revert(version)
    assert members(number) == {"u1", "u2", "u3"}
    assert (version.state, UserList.objects.get(pk=number).size) == (State.REVERTED, 3)


def test_versions_are_taken_back_one_after_the_other(number: int) -> None:
    first = upload(number, "u1\n")
    apply(first)
    second = upload(number, "u9\n")
    apply(second)
    with pytest.raises(StateError, match="revert the newest one first"):
        list_versions.begin_revert(first)
    revert(second)
    assert members(number) == {"u1"}
    first.refresh_from_db()
    revert(first)
    assert members(number) == {"u1", "u2", "u3"}


def test_a_comparison_with_a_list_that_changed_since_is_not_applied(number: int) -> None:
    version = upload(number, "u1\n")
    lists.add_members(number, ["u7"])
    with pytest.raises(StateError, match="upload the file again"):
        list_versions.begin_apply(version)
    assert members(number) == {"u1", "u2", "u3", "u7"}


def test_two_versions_are_never_under_way_together(number: int) -> None:
    one, other = upload(number, "u1\n"), upload(number, "u2\n")
    list_versions.begin_apply(one)
    with pytest.raises(StateError, match="under way"):
        list_versions.begin_apply(other)


def test_a_discarded_comparison_keeps_no_user_and_is_not_applied(number: int) -> None:
    version = upload(number, "u8\n")
    list_versions.discard(version)
    assert not ListBlock.objects.exists()
    with pytest.raises(StateError):
        list_versions.begin_apply(version)


def test_a_file_without_users_is_refused_rather_than_emptying_the_list(number: int) -> None:
    with pytest.raises(InputError, match="at least one user id, got 0 invalid and 2 empty lines"):
        upload(number, "user_id\n\n  \n")
    assert not ListVersion.objects.exists()


def test_a_refused_file_leaves_the_transaction_usable(number: int) -> None:
    with pytest.raises(InputError):
        list_uploads.upload(number, io.BytesIO(b"u1\n\xff\n"), file_name="x", by="wang")
    assert upload(number, "u1\n").users == 1


def test_pieces_are_carried_on_where_they_stopped(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_compare, "USERS", 2)
    version = upload(number, "\n".join(f"n{each}" for each in range(5)))
    list_versions.begin_apply(version)
    assert list_versions.carry_on(seconds=0) == 2
    version.refresh_from_db()
    assert list_versions.progress(version) == (2, 16)
    assert version.state == State.APPLYING
    assert list_versions.carry_on() == 6
    assert members(number) == {f"n{each}" for each in range(5)}
    assert UserList.objects.get(pk=number).size == 5


@pytest.mark.django_db(transaction=True)
def test_members_reach_packed_profiles(packed: Callable[[str], User | None]) -> None:
    number = UserList.objects.create(key="vip", kind="allow").number
    apply(upload(number, "u1\nu2\n"))
    packing.drain_dirty()
    for user in ("u1", "u2"):
        found = packed(user)
        assert found is not None
        assert found.lists == {number}


def receive(number: int, content: bytes, **options: str) -> ListVersion:
    file = io.BytesIO(content)
    return list_uploads.receive(number, file, file_name="vip.csv", by="wang", **options)


def test_a_long_file_waits_for_a_worker_and_is_compared_then(number: int) -> None:
    version = receive(number, gzip.compress(b"user_id\nu2\nu3\nu4\nbad,line\n"))
    assert (version.state, version.users) == (State.COMPARING, 0)
    assert list_uploads.compare_waiting() == 1
    version.refresh_from_db()
    assert version.state == State.READY
    assert counts(version) == (3, 1, 1, 2, 0)
    assert version.invalid == 1
    assert [row.lines for row in version.rejects.all()] == ['5,"expected 1 cells, got 2"\r\n']
    assert not version.parts.exists()
    apply(version)
    assert members(number) == {"u2", "u3", "u4"}


def test_a_file_that_cannot_be_read_says_so_on_its_version(number: int) -> None:
    version = receive(number, "u1\n张三\n".encode("gb18030"))
    list_uploads.compare_waiting()
    version.refresh_from_db()
    assert version.state == State.FAILED
    assert version.problem.startswith("encoding: line 2: expected UTF-8, got other bytes; it looks")


def test_a_comparison_that_was_killed_begins_anew(number: int) -> None:
    version = receive(number, b"u4\nu5\n")
    with connection.cursor() as cursor:  # what a killed worker leaves
        cursor.execute(
            f"CREATE UNLOGGED TABLE cohorts_listing_{version.pk}"
            " (user_id text, state text, at timestamptz)"
        )
        cursor.execute(f"INSERT INTO cohorts_listing_{version.pk} VALUES ('half')")
    assert list_uploads.compare_waiting() == 1
    version.refresh_from_db()
    assert (version.state, version.users) == (State.READY, 2)


def test_a_cancelled_comparison_keeps_nothing(number: int) -> None:
    version = receive(number, b"u4\n")
    assert list_versions.cancel(version).state == State.DISCARDED
    assert list_uploads.compare_waiting() == 0
    assert not version.parts.exists()
    with pytest.raises(StateError):
        list_versions.cancel(version)


def test_a_cancelled_application_is_turned_back(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_compare, "USERS", 2)
    version = upload(number, "u1\nu4\nu5\nu6\nu7\n")
    list_versions.begin_apply(version)
    assert list_versions.carry_on(seconds=0) == 2
    assert members(number) > {"u1", "u2", "u3"}
    list_versions.cancel(version)
    list_versions.carry_on()
    version.refresh_from_db()
    assert version.state == State.REVERTED
    assert members(number) == {"u1", "u2", "u3"}
    assert UserList.objects.get(pk=number).size == 3


def test_a_list_that_changes_while_it_is_compared_is_compared_again(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = list_compare._make_blocks

    def slow(*given: object) -> None:
        real(*given)
        monkeypatch.setattr(list_compare, "_make_blocks", real)
        lists.add_members(number, ["u4"])

    monkeypatch.setattr(list_compare, "_make_blocks", slow)
    version = upload(number, "u1\nu4\n")
    assert counts(version) == (2, 0, 2, 2, 0)
    assert version.base == UserList.objects.get(pk=number).version
    apply(version)
    assert members(number) == {"u1", "u4"}


def test_comparisons_that_nobody_applies_are_dropped(number: int) -> None:
    version = upload(number, "u8\n")
    assert list_versions.discard_old(version.uploaded_at) == 0
    later = version.uploaded_at + timedelta(days=list_versions.UNAPPLIED_DAYS, seconds=1)
    assert list_versions.discard_old(later) == 1
    version.refresh_from_db()
    assert version.state == State.DISCARDED
    assert not ListBlock.objects.exists()


def test_what_ended_comparisons_left_behind_is_dropped(number: int) -> None:
    version = upload(number, "u8\n")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE UNLOGGED TABLE cohorts_listing_{version.pk} (user_id text)")
    assert list_uploads.drop_leftovers() == 1
    assert list_uploads.drop_leftovers() == 0


def test_rows_move_and_profiles_wait_while_redis_is_away(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> int:
        raise redis.ConnectionError("away")

    version = upload(number, "u4\n", mode="add")
    with monkeypatch.context() as patch:
        patch.setattr(packing, "pack_profiles", away)
        apply(version)
    assert version.state == State.APPLYING
    assert (version.done, version.packed) == (1, 0)
    list_versions.carry_on()
    version.refresh_from_db()
    assert (version.state, version.packed) == (State.APPLIED, 1)


def test_who_was_on_a_list_when_is_kept(number: int) -> None:
    version = upload(number, "u1\nu4\n")
    apply(version)
    assert version.applied_at is not None
    before = version.applied_at - timedelta(microseconds=1)
    assert memberships.lists_at("u4", before) == frozenset()
    assert memberships.lists_at("u4", version.applied_at) == {number}
    assert memberships.lists_at("u2", version.applied_at) == frozenset()
    revert(version)
    told = [(each.state, each.by) for each in memberships.history("u4", number)]
    assert told == [("accepted", "vip.csv"), ("removed", "vip.csv")]
    assert version.reverted_at is not None
    assert memberships.lists_at("u2", version.reverted_at) == {number}
    assert memberships.history("u9", number) == []
