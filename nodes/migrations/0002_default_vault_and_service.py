"""The rows that every installation has: one vault, and the service that watches it, stopped."""

from django.db import migrations

DESCRIPTION = (
    "Sends hello packets to the vault hosts and keeps the fallbacks in step with the primary. "
    "When the primary dies, it makes a fallback the new one."
)


def seed(apps, schema_editor):
    apps.get_model("nodes", "Vault").objects.get_or_create(name="Vault")
    apps.get_model("nodes", "AppService").objects.get_or_create(
        name="SystemHighAvailabilityService", defaults={"description": DESCRIPTION}
    )


class Migration(migrations.Migration):
    dependencies = [("nodes", "0001_initial")]
    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
