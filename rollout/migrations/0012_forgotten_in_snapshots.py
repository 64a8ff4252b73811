"""A person who is forgotten may be taken out of old snapshots; nothing else of them may change."""

from django.db import migrations, models

GUARD = """
CREATE FUNCTION rollout_keep_snapshot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND current_setting('huidu.redacting', true) = 'on'
        AND NEW.redacted_at IS NOT NULL
        AND to_jsonb(NEW) - 'blob' - 'redacted_at' = to_jsonb(OLD) - 'blob' - 'redacted_at'
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'rows of % are written once: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
DROP TRIGGER snapshot_is_immutable ON rollout_snapshot;
CREATE TRIGGER snapshot_is_immutable BEFORE UPDATE OR DELETE ON rollout_snapshot
    FOR EACH ROW EXECUTE FUNCTION rollout_keep_snapshot();
"""
BACK = """
DROP TRIGGER snapshot_is_immutable ON rollout_snapshot;
CREATE TRIGGER snapshot_is_immutable BEFORE UPDATE OR DELETE ON rollout_snapshot
    FOR EACH ROW EXECUTE FUNCTION rollout_refuse_change();
DROP FUNCTION rollout_keep_snapshot();
"""


class Migration(migrations.Migration):
    dependencies = [("rollout", "0011_ramps_and_holdbacks")]
    operations = [
        migrations.AddField(
            model_name="snapshot",
            name="redacted_at",
            field=models.DateTimeField(
                blank=True, null=True, verbose_name="a user was taken out on"
            ),
        ),
        migrations.RunSQL(GUARD, BACK),
    ]
