from django.contrib.admin.apps import AdminConfig


class ConsoleAdminConfig(AdminConfig):
    """Makes our admin site the default one, so that nodes.admin registers on it without importing this package."""

    default_site = "sectona_ha.site.ConsoleSite"

    def ready(self) -> None:
        super().ready()
        from . import checks  # noqa: F401  # registers itself
