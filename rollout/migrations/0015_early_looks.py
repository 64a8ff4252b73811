"""A look every minute in a stage's first half hour; stages that began without go on without."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rollout", "0014_fresh_minutes")]

    operations = [
        migrations.AddField(
            model_name="stage",
            name="early_minutes",
            field=models.PositiveSmallIntegerField(
                default=30, editable=False, verbose_name="minutes with a look every minute"
            ),
        ),
        migrations.RunSQL(
            "UPDATE rollout_stage SET early_minutes = 0 WHERE entered_at IS NOT NULL",
            migrations.RunSQL.noop,
        ),
    ]
