"""``manage.py import_profiles FILE``: facts about users from a file."""

from __future__ import annotations

from cohorts.management import importing
from cohorts.services import imports


class Command(importing.ImportCommand):
    help = (
        "Import facts about users from CSV, gzipped CSV or Parquet. Columns: user_id and names of "
        "registered attributes. An empty cell leaves what is known; texts of a list are "
        "separated by |."
    )
    kind = imports.PROFILES
