"""WHO: profiles, payments, windows, attributes, cohorts, lists, draws."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class CohortsConfig(AppConfig):
    name = "cohorts"
    verbose_name = _("Users")
