"""Long lists through the pages and the API: uploaded, compared, applied by two where it matters."""

from __future__ import annotations

import gzip

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoCaptureOnCommitCallbacks

from cohorts.models import ListVersion, UserList, UserListMember
from cohorts.services import list_uploads
from rollout.models import AuditEntry, ChangeRequest
from rollout.services import flags, keys, list_edits
from rollout.services.changing import ApprovalNeededError
from tests.rollout.admin import world
from tests.rollout.admin.test_writes import logged_in

pytestmark = pytest.mark.django_db
API = "/api/v1/manage/lists/vip/versions"


@pytest.fixture
def bank(redis: object) -> world.World:
    return world.build(10)


@pytest.fixture
def wang(bank: world.World) -> Client:
    return logged_in(world.people()[0])


@pytest.fixture
def vip(bank: world.World) -> UserList:
    return UserList.objects.get(key="vip")


def send(client: Client, vip: UserList, content: bytes, encoding: str = "utf-8") -> str:
    url = reverse("admin:cohorts_userlist_upload", args=(vip.pk,))
    sent = {
        "file": SimpleUploadedFile("vip.csv", content),
        "mode": "replace",
        "encoding": encoding,
    }
    return client.post(url, sent, follow=True).content.decode()


def act(client: Client, version: ListVersion, name: str) -> None:
    url = reverse("admin:cohorts_listversion_act", args=(version.pk, name))
    assert client.post(url, {"reason": "because"}).status_code == 302


def members(vip: UserList) -> set[str]:
    return set(UserListMember.objects.filter(list=vip).values_list("user_id", flat=True))


def test_an_upload_shows_the_difference_and_applies_after_a_confirmation(
    wang: Client, vip: UserList, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    page = send(wang, vip, b"u0001\nu0002\nbad,line\n")
    assert "u0001, u0002" in page
    assert "expected 1 cells, got 2" in page
    version = ListVersion.objects.get()
    assert members(vip) == set()
    url = reverse("admin:cohorts_listversion_act", args=(version.pk, "apply"))
    assert "2 users are added, 0 are removed" in wang.get(url + "?reach=1").content.decode()
    with django_capture_on_commit_callbacks(execute=True):
        act(wang, version, "apply")
    assert members(vip) == {"u0001", "u0002"}
    entry = AuditEntry.objects.get(action="list.version_applied")
    assert (entry.actor, entry.reason) == ("wang", "because")
    assert "u0001" not in str(entry.after)
    with django_capture_on_commit_callbacks(execute=True):
        act(wang, version, "revert")
    assert members(vip) == set()


def test_gbk_is_told_at_the_encoding(wang: Client, vip: UserList) -> None:
    assert "looks like GBK" in send(wang, vip, "用户\n张三\n".encode("gb18030"))
    assert "张三" in send(wang, vip, "用户\n张三\n".encode("gb18030"), "gb18030")


def test_a_list_of_a_live_flag_needs_a_second_person(
    bank: world.World, wang: Client, vip: UserList
) -> None:
    flags.update(bank.flag, {"four_eyes": True}, by=world.WANG, approved_by=world.LI)
    flags.update(bank.flag, {}, by=world.WANG, allow_lists=[vip], approved_by=world.LI)
    send(wang, vip, b"u0001\n")
    act(wang, ListVersion.objects.get(), "apply")
    change = ChangeRequest.objects.get(kind="list.apply")
    assert ListVersion.objects.get().state == "ready"
    li = logged_in(world.people()[1])
    page = li.get(reverse("admin:rollout_changerequest_change", args=(change.pk,)))
    assert page.status_code == 200
    url = reverse("admin:rollout_changerequest_act", args=(change.pk, "approve"))
    assert li.post(url, {"reason": "checked"}).status_code == 302
    assert ListVersion.objects.get().state == "applying"


def test_the_api_takes_a_gzipped_body_and_applies_it(
    bank: world.World,
    vip: UserList,
    client: Client,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    _, token = keys.create("production", "admin", "lists", by=world.WANG)
    headers = {"Authorization": f"Bearer {token}"}
    body = gzip.compress(b"user_id\nu1\nu2\n")
    sent = client.post(f"{API}?mode=add", body, content_type="text/csv", headers=headers)
    assert sent.status_code == 201, sent.content
    told = sent.json()
    assert (told["users"], told["added"], told["sample"]["added"]) == (2, 2, ["u1", "u2"])
    with django_capture_on_commit_callbacks(execute=True):
        done = client.post(
            f"{API}/{told['id']}/apply",
            {"reason": "because"},
            content_type="application/json",
            headers=headers,
        )
    assert done.status_code == 200, done.content
    assert client.get(f"{API}/{told['id']}", headers=headers).json()["state"] == "applied"
    assert members(vip) == {"u1", "u2"}
    wrong = client.post(f"{API}?mode=odd", b"u1", content_type="text/csv", headers=headers)
    assert (wrong.status_code, wrong.json()["error"]["path"]) == (400, "mode")
    made = client.post(
        "/api/v1/manage/lists",
        {"key": "long", "kind": "block"},
        content_type="application/json",
        headers=headers,
    )
    assert made.status_code == 201, made.content


def test_other_keys_may_not_upload(bank: world.World, client: Client) -> None:
    _, token = keys.create("production", "server", "readers", by=world.WANG)
    headers = {"Authorization": f"Bearer {token}"}
    sent = client.post(API, b"u1", content_type="text/csv", headers=headers)
    assert sent.status_code == 403


def test_members_move_over_the_api_and_are_found_on_the_page(
    bank: world.World, wang: Client, vip: UserList, client: Client
) -> None:
    _, token = keys.create("production", "admin", "lists", by=world.WANG)
    headers = {"Authorization": f"Bearer {token}"}
    url = "/api/v1/manage/lists/vip/members"
    body = {
        "members": [{"user_id": "u1", "state": "invited"}, {"user_id": "a/b", "state": "accepted"}],
        "reason": "first guests",
    }
    sent = client.post(url, body, content_type="application/json", headers=headers)
    assert sent.json() == {"joined": 2, "left": 0, "changed": 0, "unchanged": 0}
    told = client.get(f"{url}?state=invited", headers=headers).json()
    assert [each["user_id"] for each in told] == ["u1"]
    assert client.get(f"{url}/a/b", headers=headers).json()[0]["state"] == "accepted"
    body["reason"] = ""
    body["members"] = [{"user_id": "u2", "state": "invited"}]
    refused = client.post(url, body, content_type="application/json", headers=headers)
    assert refused.status_code == 400
    page = reverse("admin:cohorts_userlist_change", args=(vip.pk,))
    assert "1 accepted, 1 invited" in wang.get(page).content.decode()
    assert "<b>u1</b> is on the list" in wang.get(f"{page}?user=u1").content.decode()
    assert "<b>u9</b> is not on the list" in wang.get(f"{page}?user=u9").content.decode()


def test_new_members_of_a_live_flag_need_a_second_person_and_accepting_does_not(
    bank: world.World, vip: UserList
) -> None:
    list_edits.move_members(
        vip, [{"user_id": "u1", "state": "invited"}], by=world.WANG, reason="guests"
    )
    flags.update(bank.flag, {"four_eyes": True}, by=world.WANG, approved_by=world.LI)
    flags.update(bank.flag, {}, by=world.WANG, allow_lists=[vip], approved_by=world.LI)
    with pytest.raises(ApprovalNeededError):
        list_edits.move_members(
            vip, [{"user_id": "u2", "state": "invited"}], by=world.WANG, reason="more"
        )
    accepted = [{"user_id": "u1", "state": "accepted"}]
    assert list_edits.move_members(vip, accepted, by=world.WANG, reason="").changed == 1


def test_a_long_upload_shows_its_progress_and_can_be_cancelled(
    wang: Client, vip: UserList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_uploads, "AT_ONCE_BYTES", 0)
    page = send(wang, vip, b"u0001\n")
    assert "data-busy" in page
    version = ListVersion.objects.get()
    act(wang, version, "cancel")
    assert ListVersion.objects.get().state == "discarded"
    assert not list_uploads.compare_waiting()


def test_all_invalid_lines_are_downloaded_as_csv(wang: Client, vip: UserList) -> None:
    send(wang, vip, b"u0001\n" + b"bad,line\n" * 150)
    url = reverse("admin:cohorts_listversion_rejects", args=(ListVersion.objects.get().pk,))
    lines = wang.get(url).content.decode("utf-8-sig").splitlines()
    assert len(lines) == 151
    assert lines[:2] == ["line,reason", '2,"expected 1 cells, got 2"']
