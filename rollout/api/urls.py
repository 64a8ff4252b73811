"""Addresses of checks, explanations, snapshots, health, figures and management."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.routers import SimpleRouter

from rollout.api import flags, funding, health, lists, records, rollouts, schema  # noqa: F401 - registers itself
from rollout.api.attributes import AttributeViewSet
from rollout.api.cases import CaseViewSet, UserCasesView
from rollout.api.checks import DecisionView, ExplanationView, VisibilityView
from rollout.api.events import EventsView
from rollout.api.profiles import ProfileView
from rollout.api.snapshot import SnapshotView
from rollout.api.texts import ReasonTextViewSet
from rollout.api.webhooks import WebhookViewSet

manage = SimpleRouter(trailing_slash=False)
manage.register("flags", flags.FlagViewSet)
manage.register("gates", flags.GateViewSet)
manage.register("texts", ReasonTextViewSet)
manage.register("tiers", flags.TierViewSet)
manage.register("partners", funding.FundingPartnerViewSet)
manage.register("places", funding.PlaceViewSet)
manage.register("region-policies", flags.RegionPolicyViewSet)
manage.register("cohorts", flags.CohortViewSet)
manage.register("attributes", AttributeViewSet)
manage.register("lists", lists.UserListViewSet)
manage.register("compliance", flags.ComplianceItemViewSet)
manage.register("rollouts", rollouts.RolloutViewSet)
manage.register("stages", rollouts.StageViewSet)
manage.register("guards", rollouts.GuardViewSet)
manage.register("decisions", rollouts.DecisionViewSet)
manage.register("changes", rollouts.ChangeViewSet)
manage.register("cases", CaseViewSet)
manage.register("metrics", records.MetricViewSet)
manage.register("keys", records.ApiKeyViewSet)
manage.register("audit", records.AuditViewSet)
manage.register("webhooks", WebhookViewSet)
manage.register("snapshots", records.SnapshotViewSet)

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/v1/manage/", include(manage.urls)),
    path("api/v1/snapshot", SnapshotView.as_view()),
    path("api/v1/events", EventsView.as_view()),
    # Ids are any text, so slashes in them (escaped or not) belong to the id.
    path("api/v1/profiles/<path:user_id>", ProfileView.as_view(), name="profile"),
    path("api/v1/flags/<str:key>/users/<str:user>", VisibilityView.as_view()),
    path("api/v1/flags/<str:key>/users/<str:user>/explanation", ExplanationView.as_view()),
    path("api/v1/flags/<str:key>/users/<str:user>/cases", UserCasesView.as_view()),
    path("api/v1/decisions/<str:decision>", DecisionView.as_view()),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("health/live", health.live),
    path("health/ready", health.ready),
    path("metrics", health.metrics),
]
