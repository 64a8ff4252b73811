"""Brings the database of a home up to date: schema, demo, login and keys. One process, once.

Every step looks first and may be repeated; what was cut off is done again at the next start.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import psycopg

from local import access, marker

DATABASE_SECONDS = 60.0


def main(demo_file: Path, url: str) -> None:
    # Django takes longest to import; meanwhile PostgreSQL starts.
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from django.core.management import call_command

    from config.settings import ENV

    wait_for_database(ENV.database_url)
    call_command("migrate", interactive=False, verbosity=0)
    call_command("make_roles", verbosity=0, stdout=io.StringIO())
    marker.write(ENV.database_url, marker.SCHEMA, marker.schema_fingerprint())
    notes = marker.read(ENV.database_url)
    if marker.DEMO not in notes:
        call_command("load_demo", users=ENV.demo_users)
        marker.write(ENV.database_url, marker.DEMO, "loaded")
    known = access.read(demo_file)
    if known is None or marker.access_fingerprint(demo_file) != notes.get(marker.ACCESS):
        known = known or access.fresh(url)
        admit(known, ENV.environment)
        access.write(demo_file, known)
        marker.write(ENV.database_url, marker.ACCESS, marker.access_fingerprint(demo_file))
    from rollout.services import publishing

    publishing.publish_pending()
    publishing.ensure_published(ENV.environment)


def wait_for_database(database_url: str) -> None:
    """Return once the database answers; raises its last error after `DATABASE_SECONDS`."""
    deadline = time.monotonic() + DATABASE_SECONDS
    while True:
        try:
            psycopg.connect(database_url, connect_timeout=5).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def admit(wanted: access.Access, environment: str) -> None:
    """Make the login and the keys valid; earlier keys of the demo are revoked."""
    from django.contrib.auth import get_user_model
    from django.db import transaction

    from huidu.wire.access import digest
    from rollout.models import ApiKey
    from rollout.services import keys
    from rollout.services.audit import Actor

    with transaction.atomic():
        # Two people, because nobody approves what he asked for himself.
        for username in (access.REVIEWER, wanted.username):
            user, _ = get_user_model().objects.get_or_create(
                username=username, defaults={"is_staff": True, "is_superuser": True}
            )
            user.set_password(wanted.password)
            user.save()
        by = Actor.of_user(user)
        live = ApiKey.objects.filter(environment=environment, revoked_at__isnull=True)
        for kind, token in wanted.keys.items():
            name = f"demo {kind}"
            old = live.filter(name=name).first()
            if old is not None and old.digest == digest(token):
                continue
            if old is not None:
                keys.revoke(old, by=by, reason="its text was lost")
            keys.create(environment, kind, name, by=by, token=token)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
