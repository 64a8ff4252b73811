"""A user's new mark is written in place: no index on the mark, and room on each page."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("cohorts", "0009_list_events_expired")]

    operations = [
        migrations.RemoveIndex(model_name="dirtyprofile", name="dirty_profile_lane"),
        migrations.AddIndex(
            model_name="dirtyprofile",
            index=models.Index(fields=["lane"], name="dirty_profile_of_lane"),
        ),
        migrations.RunSQL(
            "ALTER TABLE cohorts_dirtyprofile SET (fillfactor = 60)",
            "ALTER TABLE cohorts_dirtyprofile RESET (fillfactor)",
        ),
    ]
