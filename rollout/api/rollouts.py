"""Management of rollouts, stages, guards, decisions and change requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeVar

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ValidationError

from huidu.errors import InputError, StateError
from rollout import selectors
from rollout.api import power_shapes
from rollout.api import serializers as shapes
from rollout.api.authentication import actor_of, environment_of
from rollout.api.base import Manage
from rollout.models import ChangeRequest, Decision, Guard, Rollout, Stage
from rollout.services import changes, guard_templates, power, rollouts, stages

Step = TypeVar("Step", bound=Callable[..., Response])


def with_reason(step: Step) -> Step:
    """Describe a step: a reason in, the rollout out."""
    described: Step = extend_schema(
        request=shapes.ReasonSerializer, responses=shapes.RolloutSerializer
    )(step)
    return described


class RolloutViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    """Each step takes ``{"reason": "..."}``, moves the rollout once, and answers with it."""

    queryset = Rollout.objects.select_related("flag", "current").prefetch_related(
        "stages__audience"
    )
    serializer_class = shapes.RolloutSerializer
    environment_path = "flag__environment"
    filterset_fields: ClassVar = ["flag__key", "status"]
    search_fields: ClassVar = ["flag__key", "name"]
    ordering_fields: ClassVar = ["slot", "created_at", "started_at"]

    @extend_schema(request=shapes.NewRolloutSerializer)
    def create(self, request: Request) -> Response:
        asked = shapes.NewRolloutSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        values = asked.validated_data
        flag = selectors.flag_of(environment_of(request), values["flag"])
        if flag is None:
            raise ValidationError({"flag": ["expected the key of a flag"]})
        row = rollouts.create(
            flag,
            by=actor_of(request),
            name=values["name"],
            sticky=values["sticky"],
            reason=self.reason(),
        )
        return self.shown(row, code=201)

    def _step(self, step: Callable[..., Rollout]) -> Response:
        row = self.get_object()
        step(row, by=actor_of(self.request), reason=self.reason())
        return self.shown(self.get_object())

    @with_reason
    @action(detail=True, methods=["post"])
    def submit(self, request: Request, pk: str) -> Response:
        """Ask another person to approve the draft."""
        return self._step(rollouts.submit)

    @with_reason
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Approve what another person submitted."""
        return self._step(rollouts.approve)

    @with_reason
    @action(detail=True, methods=["post"])
    def reject(self, request: Request, pk: str) -> Response:
        """Send it back to draft."""
        return self._step(rollouts.reject)

    @with_reason
    @action(detail=True, methods=["post"])
    def start(self, request: Request, pk: str) -> Response:
        """Enter the first stage."""
        return self._step(rollouts.start)

    @with_reason
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Stop reviews and promotions; nobody loses the product."""
        return self._step(rollouts.pause)

    @with_reason
    @action(detail=True, methods=["post"])
    def hold(self, request: Request, pk: str) -> Response:
        """From now on only a person's approval promotes the running stage."""
        return self._step(rollouts.hold)

    @with_reason
    @action(detail=True, methods=["post"])
    def rollback(self, request: Request, pk: str) -> Response:
        """Take the product back from everybody this rollout showed it to."""
        return self._step(rollouts.rollback)

    @with_reason
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """Go on; 202 with a change request where two people are needed."""
        row = self.get_object()
        answer = self.change("rollout.resume", row.pk, {})
        return answer or self.shown(self.get_object())

    @with_reason
    @action(detail=True, methods=["post"])
    def promote(self, request: Request, pk: str) -> Response:
        """Leave the running stage without waiting for evidence; 202 where two are needed."""
        row = self.get_object()
        payload = {"stage": row.current_id} if row.current_id else {}
        return self.change("rollout.promote", row.pk, payload) or self.shown(self.get_object())

    @extend_schema(request=shapes.DryRunSerializer, responses=shapes.RolloutSerializer)
    @action(detail=True, methods=["post"], url_path="dry-run")
    def dry_run(self, request: Request, pk: str) -> Response:
        """Decide without acting, or act again; 202 where two people are needed."""
        asked = shapes.DryRunSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        row = self.get_object()
        payload = {"dry_run": asked.validated_data["dry_run"]}
        return self.change("rollout.dry_run", row.pk, payload) or self.shown(self.get_object())

    @with_reason
    @action(detail=True, methods=["post"], url_path="release-holdback")
    def release_holdback(self, request: Request, pk: str) -> Response:
        """Show it to those the full release held back; 202 where two people are needed."""
        row = self.get_object()
        answer = self.change("rollout.release_holdback", row.pk, {})
        return answer or self.shown(self.get_object())


class StageViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    queryset = Stage.objects.select_related("rollout__flag", "audience")
    serializer_class = shapes.StageSerializer
    environment_path = "rollout__flag__environment"
    filterset_fields: ClassVar = ["rollout", "rollout__flag__key", "status"]
    search_fields: ClassVar = ["key", "label_zh", "label_en"]
    ordering_fields: ClassVar = ["order", "entered_at"]

    def create(self, request: Request) -> Response:
        values = self.payload()
        rollout = Rollout.objects.filter(
            flag__environment=environment_of(request), pk=values["rollout"]
        ).first()
        if rollout is None:
            raise ValidationError({"rollout": ["expected the number of a rollout"]})
        answer = self.change("stage.save", 0, values | {"rollout": rollout.pk})
        if answer is not None:
            return answer
        return self.shown(Stage.objects.get(rollout=rollout, key=values["key"]), code=201)

    def partial_update(self, request: Request, pk: str) -> Response:
        row = self.get_object()
        values = self.payload(partial=True, instance=row)
        values.pop("rollout", None)
        return self.change("stage.save", row.pk, values) or self.shown(row)

    def destroy(self, request: Request, pk: str) -> Response:
        stages.remove_stage(self.get_object(), by=actor_of(request), reason=self.reason())
        return Response(status=204)

    @extend_schema(request=shapes.WidenSerializer)
    @action(detail=True, methods=["post"])
    def widen(self, request: Request, pk: str) -> Response:
        """Draw the running stage again with a larger share."""
        asked = shapes.WidenSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        row = self.get_object()
        payload = {"share_ppm": asked.validated_data["share_ppm"]}
        return self.change("stage.widen", row.pk, payload) or self.shown(row)

    @extend_schema(request=shapes.ReasonSerializer)
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Allow the engine to promote the stage once its evidence is there."""
        row = self.get_object()
        rollouts.approve_stage(row, by=actor_of(request), reason=self.reason())
        return self.shown(row)

    @extend_schema(methods=["GET"], responses=shapes.GuardOfferSerializer(many=True))
    @extend_schema(
        methods=["POST"],
        request=shapes.AddGuardsSerializer,
        responses={201: shapes.GuardSerializer(many=True)},
    )
    @action(detail=True, methods=["get", "post"], url_path="guard-templates")
    def guard_templates(self, request: Request, pk: str) -> Response:
        """Guards a consumer loan usually needs; POST adds the chosen ones, all or none."""
        row = self.get_object()
        if request.method == "GET":
            offers = guard_templates.offered(row)
            return Response(shapes.GuardOfferSerializer(offers, many=True).data)
        asked = shapes.AddGuardsSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        chosen = asked.validated_data["guards"]
        if (answer := self.change("stage.add_guards", row.pk, {"guards": chosen})) is not None:
            return answer
        keys = [each["template"] for each in chosen]
        added = Guard.objects.filter(stage=row, metric__key__in=keys).select_related("metric")
        return Response(shapes.GuardSerializer(added, many=True).data, status=201)

    @extend_schema(
        request=power_shapes.AskPowerSerializer,
        responses=power_shapes.StagePowerSerializer,
        examples=[
            OpenApiExample(
                "20,000 users a day",
                value={"traffic": 20000, "bases": {"complaint": {"value": 0.004}}},
                request_only=True,
            )
        ],
    )
    @action(detail=True, methods=["post"])
    def power(self, request: Request, pk: str) -> Response:
        """What a planned stage can prove with this traffic, when, and the smallest harm it would
        catch within a day; each share of its ramp counts with its own time and users."""
        asked = power_shapes.AskPowerSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        row = self.get_object()
        if row.status != Stage.Status.PENDING:
            raise StateError(f"stage {row} has started: its decisions say what is still missing")
        values = asked.validated_data
        given = {key: power.Base(**base) for key, base in values["bases"].items()}
        return Response(
            power_shapes.StagePowerSerializer(power.plan(row, values["traffic"], given)).data
        )


class GuardViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    queryset = Guard.objects.select_related("stage__rollout__flag", "metric")
    serializer_class = shapes.GuardSerializer
    environment_path = "stage__rollout__flag__environment"
    filterset_fields: ClassVar = ["stage", "metric__key", "role"]
    search_fields: ClassVar = ["metric__key"]

    def create(self, request: Request) -> Response:
        values = self.payload()
        stage = Stage.objects.filter(
            rollout__flag__environment=environment_of(request), pk=values["stage"]
        ).first()
        if stage is None:
            raise ValidationError({"stage": ["expected the number of a stage"]})
        if Guard.objects.filter(stage=stage, metric__key=values["metric"]).exists():
            raise InputError(
                f"expected a metric that does not guard {stage} yet: one metric has one guard",
                path="metric",
            )
        answer = self.change("guard.save", 0, values | {"stage": stage.pk})
        if answer is not None:
            return answer
        return self.shown(Guard.objects.get(stage=stage, metric__key=values["metric"]), code=201)

    def partial_update(self, request: Request, pk: str) -> Response:
        row = self.get_object()
        values = self.payload(partial=True, instance=row)
        for fixed in ("stage", "metric"):
            values.pop(fixed, None)
        return self.change("guard.save", row.pk, values) or self.shown(row)

    def destroy(self, request: Request, pk: str) -> Response:
        row = self.get_object()
        return self.change("guard.remove", row.pk, {}) or Response(status=204)


class DecisionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    queryset = Decision.objects.select_related("stage__rollout__flag")
    serializer_class = shapes.DecisionSerializer
    environment_path = "stage__rollout__flag__environment"
    filterset_fields: ClassVar = ["stage", "stage__rollout", "decision", "code", "acted"]
    search_fields: ClassVar = ["code", "metric", "text"]
    ordering_fields: ClassVar = ["at", "look"]


class ChangeViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Manage):
    queryset = ChangeRequest.objects.all()
    serializer_class = shapes.ChangeRequestSerializer
    filterset_fields: ClassVar = ["status", "kind", "requested_by"]
    search_fields: ClassVar = ["kind", "target", "reason"]

    @extend_schema(request=shapes.NoteSerializer)
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Apply what another person asked for."""
        row = self.get_object()
        changes.approve(row, by=actor_of(request), note=self._note())
        return self.shown(row)

    @extend_schema(request=shapes.NoteSerializer)
    @action(detail=True, methods=["post"])
    def reject(self, request: Request, pk: str) -> Response:
        """Refuse what another person asked for."""
        row = self.get_object()
        changes.reject(row, by=actor_of(request), note=self._note())
        return self.shown(row)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: str) -> Response:
        """Take one's own request back."""
        row = self.get_object()
        changes.withdraw(row, by=actor_of(request))
        return self.shown(row)

    def _note(self) -> str:
        asked = shapes.NoteSerializer(data=self.request.data)
        asked.is_valid(raise_exception=True)
        return str(asked.validated_data["note"])
