"""The reader's language: the switch in the header, and the words of the scripts.

Who has chosen none gets what the browser asks for. The choice is a cookie: it holds on this browser, also before the login.
"""

from functools import cache
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.utils.translation import override, to_locale
from django.views.decorators.http import require_POST, require_safe
from django.views.i18n import JavaScriptCatalog, set_language

YEAR = 365 * 24 * 3600
choose = require_POST(set_language)
"""Goes back to where the reader was, on this host only."""


@require_safe
def words(request: HttpRequest, language: str, version: str) -> HttpResponse:
    """What the scripts say, as a script. Its address changes with its content, so it may be kept."""
    if language not in dict(settings.LANGUAGES) or version != version_of(language):
        raise Http404
    with override(language):
        # The project's own words: those of Django's widgets come with Django's pages.
        response: Any = JavaScriptCatalog.as_view(packages=["nodes"])(request)
    patch_cache_control(response, public=True, immutable=True, max_age=YEAR)
    return response  # type: ignore[no-any-return]


@cache
def version_of(language: str) -> str:
    """Of the compiled words; "" when there are none."""
    file = settings.BASE_DIR / "locale" / to_locale(language) / "LC_MESSAGES" / "djangojs.mo"
    return sha256(file.read_bytes()).hexdigest()[:12] if file.is_file() else ""


def words_url(language: str) -> str:
    """ "" when the scripts speak this language by themselves."""
    version = version_of(language)
    return reverse("language-words", args=[language, version]) if version else ""
