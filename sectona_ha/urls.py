from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from nodes import language

from . import help as help_pages
from .health import healthz, readyz

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("healthz", healthz),
    path("readyz", readyz),
    path("language/", language.choose, name="language"),
    path("language/<slug:language>/<slug:version>.js", language.words, name="language-words"),
    path("admin/help/", admin.site.admin_view(help_pages.index), name="help-index"),
    path("admin/help/<slug:page>/", admin.site.admin_view(help_pages.page), name="help-page"),
    path("admin/", admin.site.urls),
]

handler400 = "sectona_ha.errors.bad_request"
handler403 = "sectona_ha.errors.forbidden"
handler404 = "sectona_ha.errors.not_found"
handler500 = "sectona_ha.errors.server_error"
