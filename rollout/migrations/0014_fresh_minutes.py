"""How old the data of a metric may be."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rollout", "0013_reason_texts")]

    operations = [
        migrations.AddField(
            model_name="metric",
            name="fresh_minutes",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Older data promotes nobody. Empty: 60 minutes. A warehouse that is "
                "loaded once a day needs a day and the time its load takes, such as 1,560 minutes.",
                null=True,
                verbose_name="may be so many minutes old",
            ),
        ),
        migrations.AddConstraint(
            model_name="metric",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("fresh_minutes__isnull", True),
                    ("fresh_minutes__range", (1, 10080)),
                    _connector="OR",
                ),
                name="metric_fresh_minutes",
            ),
        ),
    ]
