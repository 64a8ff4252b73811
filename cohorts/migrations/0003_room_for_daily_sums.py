"""A day's sum may be far larger than one payment: it must never be what refuses a batch."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("cohorts", "0002_built_in_attributes")]

    operations = [
        migrations.AlterField(
            model_name="dailypayments",
            name="amount",
            field=models.DecimalField(
                decimal_places=2, default=0, max_digits=30, verbose_name="amount (CNY)"
            ),
        ),
    ]
