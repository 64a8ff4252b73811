"""What the registry keeps of an attribute: its term, when it was retired, and since when held."""

from django.db import migrations, models
from django.db.models.functions import Now


def held_before(apps, schema_editor):
    """Nobody noted it so far, and past answers may rest on any of them."""
    attribute = apps.get_model("cohorts", "Attribute")
    attribute.objects.filter(built_in=False).update(held_since=Now())


class Migration(migrations.Migration):

    dependencies = [
        ('cohorts', '0011_draw_jobs'),
    ]

    operations = [
        migrations.AddField(
            model_name='attribute',
            name='held_since',
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name='first held'),
        ),
        migrations.AddField(
            model_name='attribute',
            name='retention_days',
            field=models.PositiveIntegerField(blank=True, help_text="A held value that nobody has confirmed for so many days is deleted at night, from the history too. Empty: kept as long as the user's profile.", null=True, verbose_name='kept for (days)'),
        ),
        migrations.AddField(
            model_name='attribute',
            name='retired_at',
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name='retired on'),
        ),
        migrations.RunPython(held_before, migrations.RunPython.noop),
        migrations.AlterField(
            model_name='attribute',
            name='sensitivity',
            field=models.CharField(choices=[('ordinary', 'ordinary'), ('financial', 'financial'), ('sensitive', 'sensitive personal'), ('risk', 'anti-fraud')], default='ordinary', max_length=9, verbose_name='sensitivity'),
        ),
        migrations.AddConstraint(
            model_name='attribute',
            constraint=models.CheckConstraint(condition=models.Q(('retention_days__isnull', True), models.Q(('retention_days__gte', 1), ('retention_days__lte', 36500)), _connector='OR'), name='attribute_retention'),
        ),
    ]
