"""The groups of staff: ``migrate`` gives them what ``shop.admin.groups`` lists, once each."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.core.management.sql import emit_post_migrate_signal

from shop.admin import groups
from shop.models import GivenPermission

pytestmark = pytest.mark.django_db


def permission(name: str) -> Permission:
    app, codename = name.split(".")
    return Permission.objects.get(content_type__app_label=app, codename=codename)


def permissions_of(group: str) -> set[str]:
    given = Permission.objects.filter(group__name=group).select_related("content_type")
    return {f"{each.content_type.app_label}.{each.codename}" for each in given}


def migrate_again() -> None:
    """Run ``migrate`` when there is nothing to migrate."""
    emit_post_migrate_signal(verbosity=0, interactive=False, db="default", apps=apps)


def test_an_empty_database_has_the_groups_with_all_that_is_listed() -> None:
    assert set(Group.objects.values_list("name", flat=True)) == set(groups.GROUPS)
    for name, listed in groups.GROUPS.items():
        assert permissions_of(name) == set(listed)


def test_the_auditor_only_looks() -> None:
    assert [name for name in groups.GROUPS["auditor"] if ".view_" not in name] == []


def test_a_permission_that_is_listed_later_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    later = [*groups.GROUPS["merchant"], "auth.view_user", "shop.not_there_yet"]
    monkeypatch.setitem(groups.GROUPS, "merchant", later)
    monkeypatch.setitem(groups.GROUPS, "packer", ["shop.view_order"])
    migrate_again()
    assert "auth.view_user" in permissions_of("merchant")
    assert permissions_of("packer") == {"shop.view_order"}


class TestWhatStaffHaveChanged:
    def test_a_permission_taken_away_stays_away(self) -> None:
        Group.objects.get(name="merchant").permissions.remove(permission("shop.add_refund"))
        migrate_again()
        assert permissions_of("merchant") == set(groups.GROUPS["merchant"]) - {"shop.add_refund"}

    def test_a_permission_given_by_hand_stays(self) -> None:
        Group.objects.get(name="auditor").permissions.add(permission("shop.change_order"))
        migrate_again()
        assert "shop.change_order" in permissions_of("auditor")

    def test_a_deleted_group_is_not_made_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Group.objects.get(name="auditor").delete()
        later = [*groups.GROUPS["auditor"], "shop.view_demobankcharge"]
        monkeypatch.setitem(groups.GROUPS, "auditor", later)
        migrate_again()
        assert not Group.objects.filter(name="auditor").exists()

    def test_a_group_of_the_same_name_made_before_is_kept(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        packers = Group.objects.create(name="packer")
        packers.permissions.add(permission("shop.change_order"))
        monkeypatch.setitem(groups.GROUPS, "packer", ["shop.view_order"])
        migrate_again()
        assert permissions_of("packer") == {"shop.view_order", "shop.change_order"}


def test_a_permission_that_is_gone_is_forgotten() -> None:
    gone = permission("shop.view_refusal")
    gone.delete()
    assert not GivenPermission.objects.filter(permission_id=gone.pk).exists()
