"""Terms of held values: nights of deletion, what was erased, and who may read protected values."""

import cohorts.models.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cohorts', '0012_attribute_registry'),
    ]

    operations = [
        migrations.CreateModel(
            name='RetentionRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField(unique=True, verbose_name='night of')),
                ('started_at', models.DateTimeField(verbose_name='started at')),
                ('finished_at', models.DateTimeField(blank=True, null=True, verbose_name='finished at')),
                ('after', models.CharField(blank=True, default='', editable=False, max_length=128, verbose_name='user')),
                ('users', models.PositiveBigIntegerField(default=0, verbose_name='users judged')),
                ('erased', models.JSONField(default=cohorts.models.fields.empty_object, help_text='By attribute: values of profiles, and values of their history.', verbose_name='deleted')),
            ],
            options={
                'verbose_name': 'deletion at term',
                'verbose_name_plural': 'deletions at term',
                'ordering': ['-day'],
            },
        ),
        migrations.AlterModelOptions(
            name='profile',
            options={'ordering': ['user_id'], 'permissions': [('read_sensitive_profile', 'Can read protected values of users')], 'verbose_name': 'profile', 'verbose_name_plural': 'profiles'},
        ),
        migrations.AddField(
            model_name='profilehistory',
            name='erased',
            field=models.JSONField(blank=True, null=True, verbose_name='no longer held'),
        ),
    ]
