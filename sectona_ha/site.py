from django.contrib.admin import AdminSite
from django.utils.translation import gettext_lazy as _


class ConsoleSite(AdminSite):
    site_header = _("Vault High Availability")
    site_title = _("Vault HA")
    index_title = _("Overview")
