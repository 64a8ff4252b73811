"""Reviews by a person: asked for by applications and support, worked on by people."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ParseError, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from huidu.errors import InputError
from huidu.wire import ofrep
from huidu.wire.access import KeyKind
from rollout import selectors
from rollout.api.authentication import (
    ApiKeyAuthentication,
    StaffSession,
    actor_of,
    environment_of,
)
from rollout.api.base import Manage
from rollout.mappers import iso
from rollout.models import ApiKey, Case, CaseNote
from rollout.services import case_proposals, cases, frozen, reading
from rollout.services.answering import past_moment

MOST_SHOWN = 50


class NewCaseSerializer(serializers.Serializer[Any]):
    """What an application sends: nothing is required."""

    claim = serializers.CharField(max_length=4_000, required=False, allow_blank=True)
    request_id = serializers.CharField(max_length=128, required=False)
    at = serializers.CharField(max_length=40, required=False)


class UserCasesView(APIView):
    """Reviews of one user's answers, as the user may read them."""

    authentication_classes = [ApiKeyAuthentication, StaffSession]
    required_kind: ClassVar[Any] = KeyKind.SERVER

    @extend_schema(responses=dict)
    def get(self, request: Request, key: str, user: str) -> Response:
        """Newest first."""
        rows = Case.objects.filter(
            environment=environment_of(request), flag__key=key[:63].replace("\0", ""), user_id=user
        ).select_related("flag")
        return Response({"cases": [_to_customer(row) for row in rows[:MOST_SHOWN]]})

    @extend_schema(request=NewCaseSerializer, responses={201: dict, 200: dict})
    def post(self, request: Request, key: str, user: str) -> Response:
        """Ask for a review by a person; asked again, the same case is given back with 200."""
        if fault := ofrep.key_fault(user):
            raise InputError(fault, path="user")
        if selectors.flag_of(environment_of(request), key.replace("\0", "")) is None:
            raise Http404
        if not isinstance(request.data, dict):
            raise ParseError("expected a JSON object")
        asked = NewCaseSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        said = asked.validated_data
        by_key = isinstance(request.auth, ApiKey)
        case, new = cases.open_case(
            environment_of(request),
            key,
            user,
            by=actor_of(request),
            channel=Case.Channel.CUSTOMER if by_key else Case.Channel.SUPPORT,
            claim=said.get("claim", ""),
            request_id=said.get("request_id"),
            at=past_moment(said.get("at"), "at"),
        )
        return Response(_to_customer(case), status=201 if new else 200)


def _to_customer(case: Case) -> dict[str, Any]:
    """What the user may read about the case: no reason code, no name of staff."""
    return {
        "case": case.pk,
        "flag": case.flag.key,
        "user": case.user_id,
        "status": _told_status(case),
        "opened_at": iso(case.opened_at),
        "due_at": iso(case.due_at),
        "decided_at": iso(case.decided_at) if case.decided_at else None,
        "outcome": case.outcome or None,
        "reply": case.reply if case.status == Case.Status.DECIDED else "",
    }


def _told_status(case: Case) -> str:
    """A second person's approval is nothing the customer must know about."""
    return "in_review" if case.status == Case.Status.APPROVAL else case.status


class CaseNoteSerializer(serializers.ModelSerializer[CaseNote]):
    class Meta:
        model = CaseNote
        fields = ("at", "by", "step", "text")


class CaseSerializer(serializers.ModelSerializer[Case]):
    flag = serializers.CharField(source="flag.key", read_only=True)
    overdue = serializers.SerializerMethodField()

    class Meta:
        model = Case
        exclude = ("receipt", "proposal", "pseudonym", "overdue_told_at")

    def get_overdue(self, case: Case) -> bool:
        return cases.is_overdue(case)


class CaseViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    """Review cases; people decide them, keys do not."""

    queryset = Case.objects.select_related("flag").order_by("-id")
    serializer_class = CaseSerializer
    filterset_fields: ClassVar = {
        "status": ["exact"],
        "outcome": ["exact"],
        "assignee": ["exact"],
        "channel": ["exact"],
        "why": ["exact"],
        "user_id": ["exact"],
        "flag__key": ["exact"],
        "due_at": ["lt", "gt"],
    }
    search_fields: ClassVar = ["^user_id", "^request_id", "claim"]
    ordering_fields: ClassVar = ["id", "due_at", "opened_at"]

    def retrieve(self, request: Request, pk: str) -> Response:
        """The case with its story and receipt; ``?audience=risk&reason=`` shows all of it."""
        case = self.get_object()
        told = self.get_serializer(case).data
        told["notes"] = CaseNoteSerializer(case.notes.all(), many=True).data
        told["receipt"] = case.receipt
        if case.receipt is not None:
            if request.query_params.get("audience") == "risk":
                _note_reader(request, case)
            else:
                told["receipt"] = frozen.for_support(case.receipt)
        return Response(told)

    @extend_schema(request=dict, responses=dict)
    @action(detail=True, methods=["post"])
    def notes(self, request: Request, pk: str) -> Response:
        """Write something down: ``{"text"}``."""
        written = cases.note(self.get_object(), self._said("text"), by=actor_of(request))
        return Response(CaseNoteSerializer(written).data, status=201)

    @extend_schema(request=dict, responses=CaseSerializer)
    @action(detail=True, methods=["post"])
    def assign(self, request: Request, pk: str) -> Response:
        """Put it into somebody's hands: ``{"person"}``."""
        case = cases.assign(self.get_object(), self._said("person"), by=actor_of(request))
        return self.shown(case)

    @extend_schema(request=dict, responses=CaseSerializer)
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: str) -> Response:
        """The customer no longer asks: ``{"text"}``."""
        case = cases.withdraw(self.get_object(), self._said("text"), by=actor_of(request))
        return self.shown(case)

    @extend_schema(request=dict, responses={200: CaseSerializer, 202: dict})
    @action(detail=True, methods=["post"])
    def decide(self, request: Request, pk: str) -> Response:
        """``{"outcome", "reply", "reason", "facts"?}`` by a person who is logged in.

        202 when a second person must approve what it changes.
        """
        if isinstance(request.auth, ApiKey):
            raise PermissionDenied("a review is decided by a person: log in, a key cannot")
        if not request.user.has_perm("rollout.change_case"):
            raise PermissionDenied("expected the right to decide review cases")
        case, outcome, by = self.get_object(), self._said("outcome"), actor_of(request)
        reason, reply = self.reason(), self._said("reply")
        filed: object = None
        if outcome == Case.Outcome.UPHELD:
            cases.uphold(case, by=by, reply=reply, text=reason)
        elif outcome == Case.Outcome.GRANTED:
            filed = case_proposals.grant(case, by=by, reason=reason, reply=reply)
        elif outcome == Case.Outcome.CORRECTED:
            facts = request.data.get("facts") if isinstance(request.data, dict) else None
            if not isinstance(facts, dict):
                raise InputError("expected the attributes to correct", path="facts")
            risk = request.user.has_perm(reading.RISK_PERMISSION)
            filed = case_proposals.correct(
                case, facts, by=by, reason=reason, reply=reply, risk=risk
            )
        else:
            raise InputError(
                f"expected one of {', '.join(Case.Outcome)}, got {outcome[:40]!r}", path="outcome"
            )
        return self.shown(case, code=200 if filed is None else 202)

    def _said(self, name: str) -> str:
        data = self.request.data
        value = data.get(name, "") if isinstance(data, dict) else ""
        if not isinstance(value, str):
            raise InputError("expected text", path=name)
        return value


def _note_reader(request: Request, case: Case) -> None:
    if not isinstance(request.auth, ApiKey) and not request.user.has_perm(reading.RISK_PERMISSION):
        raise PermissionDenied("the risk voice needs the right to change gates")
    reading.note(
        actor_of(request),
        case.environment,
        case.flag.key,
        case.user_id,
        reason=request.query_params.get("reason", ""),
    )
