"""Users' names in the audit log: pseudonyms, because the log is never changed.

Whoever is forgotten must be named nowhere, and an entry of a hash chain cannot be rewritten. So no
user's id enters the log in the first place. The same user always has the same pseudonym; only who
knows the platform's secret can tell whether it belongs to an id.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils.crypto import salted_hmac

from rollout.models import AuditEntry

DIGITS: Final = 24

NAMING: Final = frozenset({"allow_users", "block_users", "include", "exclude"})
"""Fields of flags and cohorts that list users by id."""


def pseudonym(user_id: str) -> str:
    """The user's name in the log, which nobody can turn back without the platform's secret."""
    return salted_hmac("huidu.forgotten", user_id, algorithm="sha256").hexdigest()[:DIGITS]


def target(user_id: str) -> str:
    """What an entry about one user is about."""
    return f"user:{pseudonym(user_id)}"


def hidden(value: Any) -> Any:
    """A piece of JSON with the users in lists of users replaced by their pseudonyms."""
    return replaced(value, pseudonym)


def replaced(value: Any, name_of: Callable[[str], str]) -> Any:
    """The same with `name_of` each user."""
    if isinstance(value, dict):
        return {
            name: [name_of(user) if isinstance(user, str) else user for user in inner]
            if name in NAMING and isinstance(inner, list)
            else replaced(inner, name_of)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [replaced(inner, name_of) for inner in value]
    return value


def hidden_reason(reason: str, *told: Any) -> str:
    """A sentence without the ids of users who stand in the lists that an entry tells of."""
    listed: set[str] = set()

    def note(user: str) -> str:
        listed.add(user)
        return user

    for value in told:
        replaced(value, note)
    for user in sorted(listed):
        if user in reason:
            reason = without(reason, user)
    return reason


def without(text: str, user_id: str) -> str:
    """A sentence with the user's id, where it stands as a word, replaced by the pseudonym."""
    return re.sub(rf"(?<!\w){re.escape(user_id)}(?!\w)", pseudonym(user_id), text)


def about(entries: QuerySet[AuditEntry], user_id: str) -> QuerySet[AuditEntry]:
    """The entries of the log that concern the user: by target, reason, or a list of users."""
    name = pseudonym(user_id)
    told = entries.annotate(was=Cast("before", TextField()), became=Cast("after", TextField()))
    listed = Q(was__contains=name) | Q(became__contains=name)
    return told.filter(Q(target__contains=name) | Q(reason__contains=name) | listed)
