from django.contrib.admin.apps import AdminConfig


class ConsoleAdminConfig(AdminConfig):
    """Makes our admin site the default one, so that nodes.admin registers on it without importing this package."""

    default_site = "sectona_ha.site.ConsoleSite"
