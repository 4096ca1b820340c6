from django.apps import AppConfig


class LaterAppConfig(AppConfig):
    name = "tests.upgrading.later_app"

    def ready(self) -> None:
        from shop.admin.groups import GROUPS

        GROUPS["merchant"] += ["later_app.view_gadget", "later_app.not_yet_there"]
