"""The admin site's own app."""

from django.apps import AppConfig


class HuiduAdminConfig(AppConfig):
    name = "config"
    label = "huidu_config"
