"""What the platform knows about users, shown to operators."""

from cohorts.admin import records, users

__all__ = ["records", "users"]
