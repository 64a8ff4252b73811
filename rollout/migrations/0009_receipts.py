"""Receipts of checks in one partition a month; `rollout.services.receipts` makes partitions."""

from django.db import migrations

MAKE = """
CREATE TABLE rollout_receipt (
    at timestamptz NOT NULL,
    decision_id varchar(32) NOT NULL,
    environment varchar(31) NOT NULL,
    flag_key varchar(63) NOT NULL,
    user_id varchar(128) NOT NULL,
    sequence bigint NOT NULL,
    visible boolean NOT NULL,
    why varchar(63) NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (at, decision_id)
) PARTITION BY RANGE (at);
CREATE INDEX receipt_user ON rollout_receipt (user_id, at);
"""


class Migration(migrations.Migration):
    dependencies = [("rollout", "0008_receipt_model")]
    operations = [migrations.RunSQL(MAKE, "DROP TABLE rollout_receipt")]
