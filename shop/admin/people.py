"""Staff, groups, and the log of what staff did."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from inventory.admin.base import GuardedAdmin, ReadOnlyAdmin

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(GuardedAdmin, DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Keep users who have changed anything, and their log. They can be made inactive.

        Nobody deletes themselves: the log of that would go with them.
        """
        deleted, counts, lacking, protected = super().get_deleted_objects(objs, request)
        logged = LogEntry.objects.filter(user__in=objs).values_list("user__username", flat=True)
        names = [f"log of changes by {name}: make them inactive instead" for name in set(logged)]
        if request.user.pk in {each.pk for each in objs}:
            names.append("yourself: ask somebody else to do it")
        lacking = set(lacking) - {LogEntry._meta.verbose_name}
        return deleted, counts, lacking, [*protected, *sorted(names)]


@admin.register(Group)
class GroupAdmin(GuardedAdmin, DjangoGroupAdmin, ModelAdmin):
    pass


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    list_display = ("action_time", "user", "action", "object_link", "change")
    list_select_related = ("user", "content_type")
    list_filter = (("action_flag", admin.ChoicesFieldListFilter),)
    ordering = ("-pk",)
    fields = (("action_time", "user"), ("action", "object_link"), "change")
    readonly_fields = ("action", "object_link", "change")

    @display(description="Action")
    def action(self, entry: LogEntry) -> str:
        return entry.get_action_flag_display()

    @display(description="Object")
    def object_link(self, entry: LogEntry) -> str:
        name = f"{entry.content_type}: {entry.object_repr}"
        url: Any = entry.get_admin_url()
        return format_html('<a class="link" href="{}">{}</a>', url, name) if url else name

    @display(description="In words")
    def change(self, entry: LogEntry) -> str:
        return entry.get_change_message()

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("admin.view_logentry")
