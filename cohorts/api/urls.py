"""Addresses of the ingest API."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from cohorts.api.views import PaymentsView, ProfilesView, ProfileView

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/v1/payments", PaymentsView.as_view(), name="ingest-payments"),
    path("api/v1/profiles", ProfilesView.as_view(), name="ingest-profiles"),
    # Ids are any text, so slashes in them (escaped or not) belong to the id.
    path("api/v1/profiles/<path:user_id>", ProfileView.as_view(), name="profile"),
]
