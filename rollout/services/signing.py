"""Signatures of webhooks, as Standard Webhooks 1.0 (standardwebhooks.com) defines them.

webhook-signature: v1,<base64 of HMAC-SHA256 over "{id}.{timestamp}.{body}">
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import datetime
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32


def new_secret() -> str:
    """A secret for one webhook: 256 random bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers(secret: str, message: str, body: bytes, now: datetime) -> dict[str, str]:
    """The three headers a receiver checks: id, time of this attempt in seconds, signature."""
    timestamp = str(int(now.timestamp()))
    signed = b".".join([message.encode(), timestamp.encode(), body])
    key = base64.b64decode(secret.removeprefix(PREFIX))
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{digest}",
    }
