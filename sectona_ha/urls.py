from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from . import help as help_pages
from .health import healthz, readyz

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("healthz", healthz),
    path("readyz", readyz),
    path("admin/help/", admin.site.admin_view(help_pages.index), name="help-index"),
    path("admin/help/<slug:page>/", admin.site.admin_view(help_pages.page), name="help-page"),
    path("admin/", admin.site.urls),
]
