"""The login form: Django's own, with a sentence that says what to try, and nothing about which part was wrong."""

from django.contrib.admin.forms import AdminAuthenticationForm
from django.utils.translation import gettext_lazy as _


class LoginForm(AdminAuthenticationForm):
    error_messages = {
        **AdminAuthenticationForm.error_messages,
        "invalid_login": _(
            "This username and password do not fit together, or the account may not use this console."
            " Capital letters count, in both."
        ),
    }
