"""Triggers: audit entries and snapshots are written once, whoever holds the connection."""

from django.db import migrations

REFUSE = """
CREATE FUNCTION rollout_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are written once: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER audit_is_insert_only BEFORE UPDATE OR DELETE ON rollout_auditentry
    FOR EACH ROW EXECUTE FUNCTION rollout_refuse_change();
CREATE TRIGGER snapshot_is_immutable BEFORE UPDATE OR DELETE ON rollout_snapshot
    FOR EACH ROW EXECUTE FUNCTION rollout_refuse_change();
"""
ALLOW = """
DROP TRIGGER snapshot_is_immutable ON rollout_snapshot;
DROP TRIGGER audit_is_insert_only ON rollout_auditentry;
DROP FUNCTION rollout_refuse_change();
"""


class Migration(migrations.Migration):
    dependencies = [("rollout", "0001_first_tables")]
    operations = [migrations.RunSQL(REFUSE, ALLOW)]
