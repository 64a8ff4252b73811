"""WHEN and WHY: flags, stages, gates, guards, decisions, snapshots, keys, audit."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RolloutConfig(AppConfig):
    name = "rollout"
    verbose_name = _("Releases")
