"""The admin site's own app."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class HuiduAdminConfig(AppConfig):
    name = "config"
    label = "huidu_config"


class HuiduAdminSiteConfig(AdminConfig):
    """Django's admin with our own site in place of its default one."""

    default_site = "config.admin_site.HuiduAdminSite"
