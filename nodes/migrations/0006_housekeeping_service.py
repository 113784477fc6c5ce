"""The second service that every installation has: it throws away what is older than its retention. It runs from the start."""

from django.db import migrations

DESCRIPTION = (
    "Throws away events, operations, log lines, lag samples and audit entries that are older than they are to be kept. "
    "The vaults do not depend on it."
)


def seed(apps, schema_editor):
    apps.get_model("nodes", "AppService").objects.get_or_create(
        name="SystemHousekeepingService",
        defaults={"description": DESCRIPTION, "desired_state": "started", "trigger_interval": 60.0},
    )


class Migration(migrations.Migration):
    dependencies = [("nodes", "0005_console")]
    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
