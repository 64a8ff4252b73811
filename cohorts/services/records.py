"""Where `cohorts.records` was first; kept for those who import it from here."""

from cohorts.records import profiles, users

__all__ = ["profiles", "users"]
