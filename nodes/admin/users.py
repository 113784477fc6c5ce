"""Administration → Users and Groups: roles in words, and nobody gives away more than he has.

Django's stock forms let everybody with change_user make himself a superuser, or set the password of one. Here, who is no
superuser himself

- neither sees the Superuser switch, nor changes or deletes a user who may do something that he may not;
- gives and takes only permissions that he has, also by way of a group;
- neither changes nor deletes a group that holds a permission that he lacks.
"""

from collections.abc import Iterable
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import (
    ReadOnlyPasswordHashField,
    ReadOnlyPasswordHashWidget,
    UserChangeForm,
    UserCreationForm,
)
from django.contrib.auth.hashers import is_password_usable
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import ValidationError
from django.db.models import Case, Q, QuerySet, Value, When
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from nodes.roles import ROLES

User = get_user_model()
_LOG_IN: Final = gettext_lazy("May log in")
_LOG_IN_HELP: Final = gettext_lazy("Without it the password is not accepted here, whatever the roles are.")
_NAMED: Final = 5
"""Permissions that a refusal names."""


def beyond(user: Any, permissions: Iterable[Permission]) -> list[Permission]:
    """Those that this user does not have himself, and therefore may neither give nor take."""
    if user.is_superuser:
        return []
    own = user.get_all_permissions()
    return [p for p in permissions if f"{p.content_type.app_label}.{p.codename}" not in own]


def permissions_of(user: Any) -> Iterable[Permission]:
    """His own and his groups', also while he is inactive: he can be made active again."""
    held = Permission.objects.filter(Q(user=user) | Q(group__user=user))
    return held.select_related("content_type").distinct()


def out_of_reach(asks: Any, target: Any) -> bool:
    """Whether `target` may do what `asks` may not: who could set his password could do it as well."""
    if asks.is_superuser:
        return False
    return bool(target.is_superuser or beyond(asks, permissions_of(target)))


def group_out_of_reach(asks: Any, group: Group) -> bool:
    return bool(beyond(asks, group.permissions.select_related("content_type")))


def offered(held: Any) -> QuerySet:
    """What a form lists: the permissions that open something here, and those that are held already. Django makes more."""
    ours = Q()
    for name in ROLES[-1].permissions:
        app, _dot, codename = name.partition(".")
        ours |= Q(content_type__app_label=app, codename=codename)
    if held is not None:
        ours |= Q(pk__in=held.values_list("pk", flat=True))
    return Permission.objects.filter(ours).select_related("content_type")


class Roles(forms.ModelMultipleChoiceField):
    """Groups as check boxes; the three roles first, each with what it means."""

    widget = forms.CheckboxSelectMultiple

    def __init__(self) -> None:
        place = Case(*(When(name=role.name, then=Value(n)) for n, role in enumerate(ROLES)), default=Value(len(ROLES)))
        super().__init__(
            queryset=Group.objects.order_by(place, "name"),
            required=False,
            label=gettext_lazy("Roles"),
            help_text=gettext_lazy("What the user may do. Each role includes the one before it."),
        )

    def label_from_instance(self, obj: Any) -> str:
        says = {role.name: role.says for role in ROLES}.get(obj.name)
        return f"{obj.name} – {says}" if says else str(obj.name)


class Bounded:
    """A form that knows who fills it in (set by the admin) and refuses what he cannot give."""

    asks: Any = None
    permission_field = "user_permissions"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields.get(self.permission_field)
        if field is not None:
            field.label_from_instance = lambda permission: str(permission.name)
            field.queryset = offered(getattr(self.instance, self.permission_field) if self.instance.pk else None)

    def _refuse(self, changed: Iterable[Permission]) -> None:
        if missing := beyond(self.asks, changed):
            names = ", ".join(str(p.name) for p in missing[:_NAMED])
            more = _(" and %(n)s more") % {"n": len(missing) - _NAMED} if len(missing) > _NAMED else ""
            text = _("You can neither give nor take what you may not do yourself: %(names)s%(more)s.")
            raise ValidationError(text % {"names": names, "more": more})

    def _changed(self, field: str) -> set[Any]:
        chosen = set(self.cleaned_data[field])
        before = set(getattr(self.instance, field).all()) if self.instance.pk else set()
        return chosen ^ before

    def clean_groups(self) -> Any:
        groups = [group.pk for group in self._changed("groups")]
        self._refuse(Permission.objects.filter(group__in=groups).select_related("content_type").distinct())
        return self.cleaned_data["groups"]

    def clean_user_permissions(self) -> Any:
        self._refuse(self._changed("user_permissions"))
        return self.cleaned_data["user_permissions"]


class QuietPassword(ReadOnlyPasswordHashWidget):
    """Whether there is one. The stock widget shows the beginning of its hash."""

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        there = bool(value) and is_password_usable(value)
        context["summary"] = [{"label": _("A password is set.") if there else _("No password is set.")}]
        return context


class NewUserForm(Bounded, UserCreationForm):
    groups = Roles()
    is_staff = forms.BooleanField(label=_LOG_IN, help_text=_LOG_IN_HELP, required=False, initial=True)


class UserForm(Bounded, UserChangeForm):
    password = ReadOnlyPasswordHashField(
        label=gettext_lazy("Password"), help_text=gettext_lazy("Nobody can read it."), widget=QuietPassword
    )
    groups = Roles()
    is_staff = forms.BooleanField(label=_LOG_IN, help_text=_LOG_IN_HELP, required=False)


class GroupForm(Bounded, forms.ModelForm):
    permission_field = "permissions"

    def clean_permissions(self) -> Any:
        self._refuse(self._changed("permissions"))
        return self.cleaned_data["permissions"]


class KnowsWhoAsks:
    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> type[forms.Form]:
        form = super().get_form(request, obj, change=change, **kwargs)  # type: ignore[misc]
        return type(form.__name__, (form,), {"asks": request.user})

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Check boxes: Django's two lists side by side need a script, a mouse and a wide screen."""
        kwargs.setdefault("widget", forms.CheckboxSelectMultiple)
        return super().formfield_for_manytomany(db_field, request, **kwargs)  # type: ignore[misc]

    def _reaches(self, request: HttpRequest, obj: Any) -> bool:
        raise AssertionError("each has its own")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._reaches(request, obj)  # type: ignore[misc]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._reaches(request, obj)  # type: ignore[misc]


admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class ConsoleUserAdmin(KnowsWhoAsks, UserAdmin):
    form = UserForm
    add_form = NewUserForm
    list_display = ("username", "roles", "may_log_in", "is_superuser", "last_login")
    list_filter = ("groups", "is_staff", "is_active")
    filter_horizontal = ()
    readonly_fields = ("last_login", "date_joined")
    add_fieldsets = (
        (None, {"fields": ("username", "password1", "password2")}),
        (gettext_lazy("What the user may do"), {"fields": ("is_staff", "groups")}),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("groups")

    @admin.display(description=gettext_lazy("Roles"))
    def roles(self, user: Any) -> str:
        return ", ".join(sorted(group.name for group in user.groups.all())) or "–"

    @admin.display(description=_LOG_IN, boolean=True)
    def may_log_in(self, user: Any) -> bool:
        return bool(user.is_staff and user.is_active)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return super().get_fieldsets(request, obj)
        switches = ("is_active", "is_staff", *(("is_superuser",) if request.user.is_superuser else ()))
        return (
            (None, {"fields": ("username", "password")}),
            (gettext_lazy("Who it is"), {"fields": ("first_name", "last_name", "email")}),
            (gettext_lazy("What the user may do"), {"fields": (*switches, "groups")}),
            (
                gettext_lazy("Single permissions, beside the roles"),
                {"fields": ("user_permissions",), "classes": ("collapse",)},
            ),
            (gettext_lazy("When"), {"fields": ("last_login", "date_joined")}),
        )

    def _reaches(self, request: HttpRequest, obj: Any) -> bool:
        return obj is None or not out_of_reach(request.user, obj)


@admin.register(Group)
class ConsoleGroupAdmin(KnowsWhoAsks, GroupAdmin):
    form = GroupForm
    filter_horizontal = ()

    def _reaches(self, request: HttpRequest, obj: Any) -> bool:
        return obj is None or not group_out_of_reach(request.user, obj)
