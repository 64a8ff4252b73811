"""The admin site: Unfold's, with our own pages beside those of the models."""

from __future__ import annotations

from django.urls import URLPattern, path
from unfold.sites import UnfoldAdminSite


class HuiduAdminSite(UnfoldAdminSite):
    """Pages that belong to no single model hang here; each checks its own permission."""

    enable_nav_sidebar = True

    def extra_urls(self) -> list[URLPattern]:
        from rollout.admin.diagnose import diagnose
        from rollout.admin.rule_api import check_rule
        from rollout.admin.waterfall import page as waterfall

        return [
            path("diagnose/", self.admin_view(diagnose), name="diagnose"),
            path("waterfall/", self.admin_view(waterfall), name="waterfall"),
            path("rules/check/", self.admin_view(check_rule), name="rule_check"),
        ]
