"""What a browser gets instead of a page: not allowed, not there, broken, and a form whose token does not fit.

htmx gets one sentence as plain text, which console.js puts into the popup or a notice. A page that explains an error must not
fail itself: where the database may be the cause, nothing asks it.
"""

import logging
import re
import secrets
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import REASON_BAD_ORIGIN, REASON_NO_CSRF_COOKIE
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from nodes.roles import ADMINISTRATOR

log = logging.getLogger(__name__)
NAMES_SHOWN = 5
OTHER_NAMES = {"changelist": "view", "history": "view"}
"""What an address of Django's own forms is called → what its permission is called, where that differs."""


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403: which permission is missing, in words, and whom to ask."""
    try:
        permission = _missing(request, exception)
        roles = list(Group.objects.filter(permissions=permission).values_list("name", flat=True)) if permission else []
        administrators = _administrators()
    except Error:
        permission, roles, administrators = None, [], []
    says = (
        _("You may not do this: it needs the permission “%(name)s”.") % {"name": permission.name}
        if permission
        else _("You may not do this: your account has not the permission that it needs.")
    )
    context = {
        "permission": permission,
        "roles": roles,
        "administrators": administrators,
        "again": _where_from(request),
    }
    ask = _("Ask an administrator: %(names)s.") % {"names": ", ".join(administrators)} if administrators else ""
    return _answer(request, 403, "403.html", f"{says} {ask}".strip(), context)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 404, "404.html", _("This is no longer there, or never was. The list shows what is."), {})


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 as well: somebody logged in or out in another tab, cookies are off, or a proxy hides our own address."""
    if reason.startswith(REASON_BAD_ORIGIN.split("%", 1)[0]):
        cause = "origin"
    elif reason == REASON_NO_CSRF_COOKIE:
        cause = "cookie"
    else:
        cause = "old"
    log.warning("a form was not accepted: %s (%s)", reason, request.path)
    says = _("Nothing was changed: this page is from before you last logged in. Reload it and try again.")
    return _answer(
        request, 403, "403_csrf.html", says, {"cause": cause, "again": _where_from(request)}, with_menu=False
    )


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400, most often a hostname that is not in VAULT_HA_ALLOWED_HOSTS. Asks the request for nothing: that is what failed."""
    return HttpResponse(render_to_string("400.html", {"site_header": admin.site.site_header}), status=400)


def server_error(request: HttpRequest) -> HttpResponse:
    """500: a reference that stands in the log as well, right before the traceback. Nothing of the error itself."""
    reference, at = secrets.token_hex(4), timezone.now()
    log.error("error %s: what follows is of %s %s", reference, request.method, request.path)
    says = (
        _("Something went wrong in the console. Reference for its log: %(ref)s")
        if request.method in ("GET", "HEAD")
        else _(
            "Something went wrong in the console. Whether it was done is not known: look at the list. Reference: %(ref)s"
        )
    )
    says = says % {"ref": reference}
    if _htmx(request):
        return _sentence(says, 500)
    try:
        context = {"reference": reference, "at": at, "site_header": admin.site.site_header, "title": _("Error")}
        return HttpResponse(render_to_string("500.html", context), status=500)
    except Exception:  # even the page does not work: static files that were not collected, for instance
        log.exception("the page for error %s could not be made either", reference)
        return _sentence(says, 500)


# --- parts


def _answer(
    request: HttpRequest, status: int, template: str, says: str, context: dict[str, Any], *, with_menu: bool = True
) -> HttpResponse:
    if _htmx(request):
        return _sentence(says, status)
    frame: dict[str, Any] = {"site_header": admin.site.site_header, "site_title": admin.site.site_title}
    user = getattr(request, "user", None)
    try:
        if with_menu and user is not None and user.is_active and user.is_staff:
            frame = admin.site.each_context(request)
        response = render(request, template, {**frame, **context, "says": says}, status=status)
    except Error:
        log.exception("the database does not answer")
        return _sentence(says, status)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _htmx(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


def _sentence(says: str, status: int) -> HttpResponse:
    response = HttpResponse(says, status=status, content_type="text/plain; charset=utf-8")
    patch_vary_headers(response, ["HX-Request"])
    return response


def _missing(request: HttpRequest, exception: Exception) -> Permission | None:
    """The permission that a view named (PermissionDenied("nodes.add_vaultnode")); Django's own forms name none, their URL does."""
    named = re.fullmatch(r"(\w+)\.(\w+)", str(exception))
    match = getattr(request, "resolver_match", None)
    if named:
        app, codename = named.groups()
    elif match is not None and match.app_names == ["admin"] and (match.url_name or "").count("_") == 2:
        app, model, action = match.url_name.split("_")
        codename = f"{OTHER_NAMES.get(action, action)}_{model}"
    else:
        return None
    return Permission.objects.filter(content_type__app_label=app, codename=codename).first()


def _administrators() -> list[str]:
    may_name = get_user_model().objects.filter(is_active=True, is_staff=True, groups__name=ADMINISTRATOR)
    return list(may_name.order_by("username").values_list("username", flat=True)[:NAMES_SHOWN])


def _where_from(request: HttpRequest) -> str:
    """The page that the form was on, if it is one of ours."""
    referer = request.headers.get("Referer", "")
    here = {request.get_host()}
    if referer and url_has_allowed_host_and_scheme(referer, here, require_https=request.is_secure()):
        return referer
    return reverse("admin:index")
