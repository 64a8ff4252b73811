"""Management of what people are told for each `why` code."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from huidu.errors import InputError
from rollout.api.authentication import environment_of
from rollout.api.base import Manage
from rollout.models import ReasonText
from rollout.services import reason_texts

_NAMES = sorted(reason_texts.EDITABLE)


class ReasonTextSerializer(serializers.ModelSerializer[ReasonText]):
    """One version; an empty text is the one the product ships."""

    class Meta:
        model = ReasonText
        fields = "__all__"


class ReasonTextChangeSerializer(serializers.ModelSerializer[ReasonText]):
    reason = serializers.CharField(required=False, write_only=True, max_length=2_000)

    class Meta:
        model = ReasonText
        fields: ClassVar = [*_NAMES, "reason"]


class ReasonTextViewSet(mixins.ListModelMixin, Manage):
    """Approved versions, newest first; one code with all that is told for it now.

    A change always needs a second person: it answers 202 with the change request that waits.
    """

    queryset = ReasonText.objects.all()
    serializer_class = ReasonTextSerializer
    lookup_field = "code"
    lookup_value_regex = "[^/]+"
    filterset_fields: ClassVar = ["code", "version"]
    search_fields: ClassVar = ["code", *_NAMES]

    def get_serializer_class(self) -> Any:
        return (
            ReasonTextChangeSerializer if self.action == "partial_update" else ReasonTextSerializer
        )

    @extend_schema(responses=dict)
    def retrieve(self, request: Request, code: str) -> Response:
        """What is told for a code now, shipped texts among it, and whether it must stay neutral."""
        environment = environment_of(request)
        row = reason_texts.filled(environment, _usable(code))
        return Response(
            {
                "code": code,
                "version": row.version,
                "neutral": reason_texts.must_stay_neutral(environment, code),
                **{name: getattr(row, name) for name in _NAMES},
            }
        )

    @extend_schema(responses={202: dict})
    def partial_update(self, request: Request, code: str) -> Response:
        """File new texts for a second person to approve."""
        values = {name: each for name, each in self.payload(partial=True).items() if name in _NAMES}
        environment = environment_of(request)
        payload = {"environment": environment, "code": _usable(code), **values}
        filed = self.change("text.save", 0, payload)
        assert filed is not None  # a text never takes effect without a second person
        return filed


def _usable(code: str) -> str:
    if "\0" in code or len(code) > 63:
        raise InputError("expected a code of at most 63 characters", path="code")
    return code
