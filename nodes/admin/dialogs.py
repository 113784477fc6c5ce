"""Popups: the same form is a fragment for the <dialog> (htmx) and a page of its own without JavaScript."""

import json
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.utils.cache import patch_vary_headers

STICKY = "sticky"
"""Extra tag of a message that stays on screen until it is dismissed."""


def in_dialog(request: HttpRequest) -> bool:
    return bool(getattr(request, "htmx", False))


def show(
    request: HttpRequest, screen: admin.ModelAdmin, body: str, *, title: str, back: str, **context: Any
) -> HttpResponse:
    """Render a popup's `body` template. A form with errors is 422, so that nobody takes it for done.

    back: where Cancel leads to without JavaScript.
    """
    dialog = in_dialog(request)
    form = context.get("form")
    response = TemplateResponse(
        request,
        "nodes/dialog.html" if dialog else "nodes/dialog_page.html",
        {
            **({} if dialog else screen.admin_site.each_context(request)),
            "opts": screen.opts,
            "title": title,
            "body": body,
            "back": back,
            "form_url": request.path,
            **context,
        },
        status=422 if form is not None and form.errors else 200,
    )
    patch_vary_headers(response, ["HX-Request"])
    return response


def done(request: HttpRequest, back: str) -> HttpResponse:
    """After a wish: close the popup, refresh the list, show the messages. Without JavaScript: go back to the list."""
    if not in_dialog(request):
        return HttpResponseRedirect(back)
    # Taken out of the queue here: left in it, they would show up on whatever page comes next.
    notices = list(messages.get_messages(request))
    response = HttpResponse(render_to_string("nodes/notices.html", {"notices": notices, "oob": True}, request))
    response["HX-Trigger"] = json.dumps({"dialog:close": "", "list:changed": ""})
    return response
