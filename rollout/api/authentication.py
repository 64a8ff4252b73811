"""Who asks: an API key, or a logged-in member of staff; and what they may do."""

from __future__ import annotations

import hmac
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from huidu.wire.access import KeyKind, digest
from rollout.models import ApiKey
from rollout.services import keys
from rollout.services.audit import Actor

if TYPE_CHECKING:  # rest_framework reads this module by name while it is being imported itself
    from rest_framework.views import APIView

CACHE_SECONDS: Final = 2.0
"""How long a key's row is believed: a revoked key ends on every process within this time."""

CACHE_ENTRIES: Final = 10_000
MAX_TOKEN: Final = 256


class KeyCache:
    """Live keys by digest, for a moment each. Unknown digests are not kept: nobody can fill it."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[float, ApiKey]] = {}
        self._lock = threading.Lock()

    def find(self, hashed: str) -> ApiKey | None:
        now = time.monotonic()
        kept = self._rows.get(hashed)
        if kept is not None and kept[0] > now:
            return kept[1]
        row = ApiKey.objects.filter(digest=hashed, revoked_at__isnull=True).first()
        with self._lock:
            if row is None or not hmac.compare_digest(row.digest, hashed):
                self._rows.pop(hashed, None)
                return None
            if len(self._rows) >= CACHE_ENTRIES:
                self._rows.clear()
            self._rows[hashed] = (now + CACHE_SECONDS, row)
        keys.note_use(row)
        return row

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()


cache = KeyCache()


class KeyUser(AnonymousUser):
    """What `request.user` is when an API key asked."""

    def __init__(self, key: ApiKey) -> None:
        super().__init__()
        self.key = key

    @property
    def is_authenticated(self) -> bool:  # type: ignore[override]
        return True

    def __str__(self) -> str:
        return f"key {self.key.name}"


class ApiKeyAuthentication(BaseAuthentication):
    """``Authorization: Bearer hd_...`` or ``X-API-Key: hd_...``."""

    def authenticate(self, request: Request) -> tuple[KeyUser, ApiKey] | None:
        token = token_of(request)
        if token is None:
            return None
        key = cache.find(digest(token)) if len(token) <= MAX_TOKEN else None
        if key is None:
            raise AuthenticationFailed("expected a live API key, got an unknown or revoked one")
        return KeyUser(key), key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class StaffSession(SessionAuthentication):
    """A logged-in member of staff, for the interactive documentation. Needs the CSRF token."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        found = super().authenticate(request)
        if found is None or not found[0].is_staff:
            return None
        return found


class HasRight(BasePermission):
    """A view says which kind of key it needs as `required_kind`; an admin key may do everything.

    Logged-in staff may do what an admin key may, in this process's environment; to change something
    they need the permission that the view names as `staff_right`, else the right to run rollouts.
    """

    message = "this key's kind does not allow it"

    def has_permission(self, request: Request, view: APIView) -> bool:
        key = request.auth
        required = getattr(view, "required_kind", KeyKind.ADMIN)
        if isinstance(key, ApiKey):
            allowed = {required} if isinstance(required, KeyKind) else set(required)
            return key.kind == KeyKind.ADMIN or KeyKind(key.kind) in allowed
        user = request.user
        if not (user and user.is_authenticated and getattr(user, "is_staff", False)):
            return False
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return True
        right = getattr(view, "staff_right", "rollout.change_rollout")
        return bool(getattr(user, "is_superuser", False) or user.has_perm(right))


def token_of(request: Request) -> str | None:
    """The API key's text from a request's headers, or None when it carries none."""
    header = request.headers.get("Authorization", "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.headers.get("X-API-Key") or None


def environment_of(request: Request) -> str:
    """The environment a request is about: its key's, else this process's."""
    if isinstance(request.auth, ApiKey):
        return request.auth.environment
    return str(settings.HUIDU_ENVIRONMENT)


def actor_of(request: Request) -> Actor:
    """Who acts, as the audit log names them."""
    if isinstance(request.auth, ApiKey):
        return Actor.of_key(request.auth)
    assert isinstance(request.user, AbstractBaseUser)
    return Actor.of_user(request.user)
