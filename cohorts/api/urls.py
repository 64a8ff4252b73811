"""Addresses of the ingest API."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from cohorts.api.views import PaymentsView, ProfilesView

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/v1/payments", PaymentsView.as_view(), name="ingest-payments"),
    path("api/v1/profiles", ProfilesView.as_view(), name="ingest-profiles"),
]
