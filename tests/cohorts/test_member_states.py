"""Invited and accepted users are on a list; expired and removed ones are not."""

from __future__ import annotations

import datetime
import io
from datetime import timedelta

import pytest
from django.db import transaction

from cohorts import memberships, selectors
from cohorts.models import DirtyProfile, ListVersion, UserList, UserListMember
from cohorts.services import list_uploads, list_versions, member_moves
from cohorts.tasks import expire_invitations
from huidu.errors import InputError
from tests.cohorts.conftest import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture
def number() -> int:
    row = UserList.objects.create(key="vip", kind="allow", invitation_lifetime=timedelta(days=30))
    return row.number


def move(number: int, now: datetime.datetime = NOW, **states: str) -> member_moves.Moved:
    return member_moves.move(number, states, by="wang", now=now)


def states(number: int) -> dict[str, str]:
    rows = UserListMember.objects.filter(list_id=number)
    return dict(rows.values_list("user_id", "state"))


def apply(number: int, text: str, **options: str) -> ListVersion:
    file = io.BytesIO(text.encode())
    version = list_uploads.upload(number, file, file_name="vip.csv", by="wang", **options)
    with transaction.atomic():
        list_versions.begin_apply(version)
    list_versions.carry_on()
    version.refresh_from_db()
    return version


def test_users_move_one_by_one_and_every_move_is_kept(number: int) -> None:
    assert move(number, u1="invited", u2="accepted") == member_moves.Moved(2, 0, 0, 0)
    later = NOW + timedelta(days=1)
    assert move(number, later, u1="accepted", u2="accepted").changed == 1
    assert move(number, later, u2="removed", u3="removed") == member_moves.Moved(0, 1, 0, 1)
    assert states(number) == {"u1": "accepted"}
    assert UserList.objects.get(pk=number).size == 1
    told = [(each.state, each.at) for each in memberships.history("u1", number)]
    assert told == [("invited", NOW), ("accepted", later)]
    assert memberships.history("u3", number) == []


def test_only_who_comes_or_goes_is_packed_again(number: int) -> None:
    move(number, u1="invited")
    DirtyProfile.objects.all().delete()
    move(number, u1="accepted")
    assert not DirtyProfile.objects.exists()
    move(number, u1="removed")
    assert [row.user_id for row in DirtyProfile.objects.all()] == ["u1"]


def test_an_invitation_ends_with_its_time_and_an_accepted_one_does_not(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_moves, "MOST", 2)
    for each in ("u1", "u2", "u3", "u4"):
        move(number, **{each: "invited"})
    move(number, NOW + timedelta(days=1), u4="accepted", u5="invited")
    at = NOW + timedelta(days=30, seconds=1)
    assert member_moves.expire(at) == 3
    assert states(number) == {"u4": "accepted", "u5": "invited"}
    assert member_moves.expire(at) == 0
    last = memberships.history("u1", number)[-1]
    assert (last.state, last.at, last.by) == ("expired", at, "invitation lifetime")
    assert memberships.counts(UserList.objects.get(pk=number)) == memberships.Counts(1, 1, 3)
    assert memberships.lists_at("u1", at - timedelta(seconds=2)) == {number}
    assert memberships.lists_at("u1", at) == frozenset()
    assert selectors.held_user("u1", at).lists == frozenset()
    assert isinstance(expire_invitations(), int)


def test_a_file_says_states_and_times(number: int) -> None:
    move(number, u1="invited", u2="invited", u3="accepted", u4="invited")
    version = apply(
        number,
        "user_id,状态,at\n"
        "u1,accepted,2026-05-21T10:00:00+08:00\n"
        "u2,已过期,\n"
        "u3,removed,\n"
        "u5,invited,2026-05-01T00:00:00Z\n"
        "u6,expired,\n"
        "u7,unsure,\n"
        "u8,invited,yesterday\n"
        "u5,invited,2026-05-02T00:00:00Z\n",
        mode="add",
    )
    assert states(number) == {"u1": "accepted", "u4": "invited", "u5": "invited"}
    told = (version.added, version.removed, version.changed, version.duplicates, version.invalid)
    assert told == (1, 2, 1, 1, 2)
    since = UserListMember.objects.get(user_id="u5").since
    assert since == datetime.datetime(2026, 5, 2, tzinfo=datetime.UTC)
    assert [each["line"] for each in version.faults] == [7, 8]
    list_versions.begin_revert(version)
    list_versions.carry_on()
    before = {"u1": "invited", "u2": "invited", "u3": "accepted", "u4": "invited"}
    assert states(number) == before
    assert UserListMember.objects.get(user_id="u1").since == NOW
    assert UserList.objects.get(pk=number).size == 4


def test_users_without_a_state_are_what_the_upload_says(number: int) -> None:
    apply(number, "u1\nu2\n", member_state="invited")
    assert states(number) == {"u1": "invited", "u2": "invited"}
    # A later file without states leaves members in the state they are in.
    move(number, u1="accepted")
    version = apply(number, "u1\nu3\n", member_state="invited")
    assert (version.added, version.removed, version.unchanged) == (1, 1, 1)
    assert states(number) == {"u1": "accepted", "u3": "invited"}


def test_a_version_can_be_taken_back_after_single_moves(number: int) -> None:
    version = apply(number, "u1\nu2\n", member_state="invited")
    move(number, u1="accepted", u9="accepted")
    list_versions.begin_revert(version)
    list_versions.carry_on()
    assert states(number) == {"u9": "accepted"}


def test_members_are_paged_by_user_and_state(number: int) -> None:
    move(number, u1="invited", u2="accepted", u3="invited")
    assert [row.user_id for row in memberships.page(number, size=2)] == ["u1", "u2"]
    assert [row.user_id for row in memberships.page(number, after="u2")] == ["u3"]
    assert [row.user_id for row in memberships.page(number, state="invited")] == ["u1", "u3"]


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ([], "members"),
        ("u1", "members"),
        ([{"user_id": "u1"}], "members[0]"),
        ([{"user_id": "u1", "state": "maybe"}], "members[0].state"),
        ([{"user_id": "", "state": "invited"}], "members[0].user_id"),
        ([{"user_id": 5, "state": "invited"}], "members[0].user_id"),
    ],
)
def test_wrong_moves_are_refused_with_their_place(members: object, path: str) -> None:
    with pytest.raises(InputError) as fault:
        member_moves.plan(members)  # type: ignore[arg-type]
    assert fault.value.path == path
