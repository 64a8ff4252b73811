"""A trigger: the receipt of a review case is written once; it can only be emptied."""

from django.db import migrations

REFUSE = """
CREATE FUNCTION rollout_keep_case_receipt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.receipt IS NOT NULL AND NEW.receipt IS DISTINCT FROM OLD.receipt
       OR NEW.receipt_hash IS DISTINCT FROM OLD.receipt_hash THEN
        RAISE EXCEPTION 'the receipt of case % is written once', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER case_receipt_is_immutable BEFORE UPDATE ON rollout_case
    FOR EACH ROW EXECUTE FUNCTION rollout_keep_case_receipt();
"""
ALLOW = """
DROP TRIGGER case_receipt_is_immutable ON rollout_case;
DROP FUNCTION rollout_keep_case_receipt();
"""


class Migration(migrations.Migration):
    dependencies = [("rollout", "0006_review_cases")]
    operations = [migrations.RunSQL(REFUSE, ALLOW)]
