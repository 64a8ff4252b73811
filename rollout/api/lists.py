"""Management of long user lists: made, uploaded, compared, applied, reverted."""

from __future__ import annotations

from collections.abc import Mapping
from tempfile import TemporaryFile
from typing import IO, Any, ClassVar, Final

import msgspec
from django.http import Http404
from django.http.request import RawPostDataException, UnreadablePostError
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from cohorts import downloads, memberships
from cohorts.models import MEMBER_STATES, ListState, ListVersion, UserListMember
from cohorts.services import list_uploads, list_versions
from cohorts.services.list_files import ENCODINGS
from huidu.errors import InputError
from rollout.api import flags
from rollout.api import serializers as shapes
from rollout.api.authentication import actor_of
from rollout.services import list_edits

MOST_BYTES: Final = 1 << 30
PIECE: Final = 1 << 20
NUMBER: Final = r"(?P<version>[0-9]{1,18})"


class ListVersionSerializer(serializers.ModelSerializer[ListVersion]):
    """A version: what the file holds, what it would change, how far that is."""

    sample = serializers.SerializerMethodField()

    class Meta:
        model = ListVersion
        fields: ClassVar = [
            "id",
            "mode",
            "encoding",
            "member_state",
            "state",
            "problem",
            "file_name",
            "sha256",
            "size_bytes",
            "bytes_read",
            "uploaded_by",
            "uploaded_at",
            "base",
            "users",
            "added",
            "removed",
            "changed",
            "unchanged",
            "duplicates",
            "empty",
            "invalid",
            "faults",
            "sample",
            "done",
            "packed",
            "applied_as",
            "applied_at",
            "reverted_at",
            "finished_at",
        ]

    def get_sample(self, row: ListVersion) -> dict[str, list[str]]:
        return list_versions.sample(row)


class MemberSerializer(serializers.ModelSerializer[UserListMember]):
    """One member, and since when in this state."""

    class Meta:
        model = UserListMember
        fields: ClassVar = ["user_id", "state", "since"]


class MembershipSerializer(serializers.Serializer[Any]):
    """From `at` on the user was in this state; `by` is a person, a key, a file or the clock."""

    state = serializers.ChoiceField(choices=ListState.values)
    at = serializers.DateTimeField()
    by = serializers.CharField()


class MoveSerializer(serializers.Serializer[Any]):
    user_id = serializers.CharField()
    state = serializers.ChoiceField(choices=ListState.values)


class MovesSerializer(serializers.Serializer[Any]):
    members = MoveSerializer(many=True)
    reason = serializers.CharField()


class MovedSerializer(serializers.Serializer[Any]):
    """How many came, went, changed their state, or were in it already."""

    joined = serializers.IntegerField()
    left = serializers.IntegerField()
    changed = serializers.IntegerField()
    unchanged = serializers.IntegerField()


class UserListViewSet(flags.UserListViewSet):
    """Lists of users; their members are changed by uploads, compared before they are applied."""

    serializer_class = shapes.UserListSerializer

    @extend_schema(request=shapes.UserListSerializer)
    def create(self, request: Request) -> Response:
        """Make an empty list."""
        row = list_edits.save_list(self.payload(), by=actor_of(request), reason=self.reason())
        return self.shown(row, code=status.HTTP_201_CREATED)

    @extend_schema(
        methods=["get"],
        parameters=[
            OpenApiParameter("state", enum=[each.value for each in MEMBER_STATES]),
            OpenApiParameter("after", str, description="The last user id of the page before."),
        ],
        responses=MemberSerializer(many=True),
    )
    @extend_schema(methods=["post"], request=MovesSerializer, responses=MovedSerializer)
    @action(detail=True, methods=["get", "post"], filter_backends=[], pagination_class=None)
    def members(self, request: Request, key: str) -> Response:
        """Members by user id, 500 at a time; or bring up to 5,000 users into other states."""
        row = self.get_object()
        if request.method != "POST":
            asked = request.query_params
            found = memberships.page(
                row.pk, state=asked.get("state", ""), after=asked.get("after", ""), size=500
            )
            return Response(MemberSerializer(found, many=True).data)
        data = request.data if isinstance(request.data, Mapping) else {}
        moved = list_edits.move_members(
            row, data.get("members", []), by=actor_of(request), reason=self.reason()
        )
        return Response(msgspec.structs.asdict(moved))

    @extend_schema(responses=MembershipSerializer(many=True))
    @action(detail=True, url_path="members/(?P<user>.+)", filter_backends=[])
    def member(self, request: Request, key: str, user: str) -> Response:
        """Every move of one user on the list, oldest first."""
        found = memberships.history(user, self.get_object().pk)
        return Response([{"state": m.state, "at": m.at, "by": m.by} for m in found])

    @extend_schema(responses=ListVersionSerializer(many=True), methods=["get"])
    @extend_schema(
        methods=["post"],
        request={"text/csv": {"type": "string", "format": "binary"}},
        parameters=[
            OpenApiParameter("mode", enum=ListVersion.Mode.values),
            OpenApiParameter("encoding", enum=list(ENCODINGS)),
            OpenApiParameter("member_state", enum=[each.value for each in MEMBER_STATES]),
            OpenApiParameter("file_name", str),
        ],
        responses={201: ListVersionSerializer, 202: ListVersionSerializer},
    )
    @action(detail=True, methods=["get", "post"], filter_backends=[], pagination_class=None)
    def versions(self, request: Request, key: str) -> Response:
        """The last 50 uploads; or upload one: the body is the CSV, gzipped or not.

        A short file is compared at once (201). A long one is compared by a worker (202): ask for
        the version until its state is no longer `comparing`.
        """
        row = self.get_object()
        if request.method != "POST":
            return Response(ListVersionSerializer(row.versions.all()[:50], many=True).data)
        asked = request.query_params
        with TemporaryFile() as file:
            size = _receive(request, file)
            version = list_uploads.submit(
                row.pk,
                file,
                size,
                file_name=asked.get("file_name", "upload.csv"),
                by=actor_of(request).name,
                mode=asked.get("mode", ListVersion.Mode.REPLACE.value),
                encoding=asked.get("encoding", ENCODINGS[0]),
                member_state=asked.get("member_state", ListState.ACCEPTED.value),
            )
        waits = version.state == ListVersion.State.COMPARING
        code = status.HTTP_202_ACCEPTED if waits else status.HTTP_201_CREATED
        return Response(ListVersionSerializer(version).data, status=code)

    @extend_schema(responses=ListVersionSerializer)
    @action(detail=True, url_path=f"versions/{NUMBER}", filter_backends=[])
    def version(self, request: Request, key: str, version: str) -> Response:
        """One upload, and how far it is applied."""
        return Response(ListVersionSerializer(self._version(version)).data)

    @extend_schema(request=shapes.ReasonSerializer, responses=ListVersionSerializer)
    @action(
        detail=True,
        methods=["post"],
        url_path=f"versions/{NUMBER}/(?P<step>apply|revert)",
        url_name="version-step",
        filter_backends=[],
    )
    def step(self, request: Request, key: str, version: str, step: str) -> Response:
        """Apply a compared upload, or take back the one applied last."""
        found = self._version(version)
        if (filed := self.change(f"list.{step}", found.pk, {})) is not None:
            return filed
        found.refresh_from_db()
        return Response(ListVersionSerializer(found).data)

    @extend_schema(request=shapes.ReasonSerializer, responses=ListVersionSerializer)
    @action(
        detail=True,
        methods=["post"],
        url_path=f"versions/{NUMBER}/cancel",
        url_name="version-cancel",
        filter_backends=[],
    )
    def cancel(self, request: Request, key: str, version: str) -> Response:
        """Stop a comparison, or turn back a version that is being applied."""
        found = list_edits.cancel(
            self._version(version), by=actor_of(request), reason=self.reason()
        )
        return Response(ListVersionSerializer(found).data)

    @extend_schema(responses={(200, "text/csv"): str})
    @action(detail=True, url_path=f"versions/{NUMBER}/rejects", filter_backends=[])
    def rejects(self, request: Request, key: str, version: str) -> HttpResponseBase:
        """The invalid lines of an upload as CSV: line and reason."""
        return downloads.rejects(self._version(version))

    def _version(self, version: str) -> ListVersion:
        found: Any = self.get_object().versions.filter(pk=int(version)).first()
        if found is None:
            raise Http404
        return found  # type: ignore[no-any-return]


def _receive(request: Request, file: IO[bytes]) -> int:
    """The request's body onto the disk, a piece at a time; how many bytes."""
    left = MOST_BYTES
    try:
        while piece := request._request.read(PIECE):
            left -= len(piece)
            if left < 0:
                raise InputError(f"expected at most {MOST_BYTES:,} bytes: send it as .gz")
            file.write(piece)
    except (UnreadablePostError, RawPostDataException) as error:
        raise InputError(f"expected a whole request body: {error}") from None
    size = file.tell()
    file.seek(0)
    return size
