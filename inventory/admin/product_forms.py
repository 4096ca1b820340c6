"""The form of a product. It writes only the fields that the user has changed."""

from __future__ import annotations

from itertools import chain, count
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import slugify
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from inventory import conf, strategies
from inventory.admin.base import (
    SelectField,
    UnitsField,
    link_to,
)
from inventory.models import Product

PICTURE = "picture"
FORM_ONLY_FIELDS = ("initial_stock", "confirm_unsafe")
NOT_COMPARED = (PICTURE, *FORM_ONLY_FIELDS)  # with the product's values
OVERSELLS = mark_safe(' <span class="unsafe">oversells</span>')


class ProductForm(forms.ModelForm):  # type: ignore[type-arg]
    """Sends along the values that it showed, and so knows which fields the user has changed."""

    initial_stock = UnitsField(
        label="Units in stock",
        min_value=0,
        required=False,
        help_text="The units that you have. They go on sale at once. Leave it empty if you have "
        "none yet.",
    )
    confirm_unsafe = forms.BooleanField(
        label="Use it all the same", required=False, widget=UnfoldBooleanWidget()
    )
    strategy = SelectField(
        required=False,
        help_text="The way of taking stock. The default is right for every product of a shop.",
    )

    class Meta:
        model = Product
        fields: ClassVar[list[str]] = [
            "name",
            "sku",
            "slug",
            "description",
            "price",
            "picture",
            "is_active",
            "low_stock_threshold",
            "max_per_buyer",
            "strategy",
            "backstop",
        ]
        help_texts: ClassVar[dict[str, str]] = {
            "slug": "The end of the address, in small letters and hyphens. If you leave it empty, "
            "it is made from the name.",
            "low_stock_threshold": "You get an alert when fewer units than this are available: at "
            "most one a day, until you receive units. With 0 you get none.",
        }
        labels: ClassVar[dict[str, str]] = {"slug": "Address of its page"}
        error_messages: ClassVar[dict[str, dict[str, str]]] = {
            "price": {"invalid": "Enter an amount such as 19.90, with a point before the cents."},
            "slug": {"unique": "Another product’s page has this address already."},
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            field.show_hidden_initial = name not in NOT_COMPARED
        if self.instance.pk:
            del self.fields["initial_stock"]
        if "slug" in self.fields:
            self.fields["slug"].required = False
        if "price" in self.fields:  # a browser's number field sends nothing for "19,90"
            self.fields["price"].widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"})
        if "strategy" in self.fields:
            choices = strategy_choices(self.instance.strategy)
            self.fields["strategy"].choices = choices  # type: ignore[attr-defined]
        if "confirm_unsafe" in self.fields and not self._chooses_unsafe():
            self.fields["confirm_unsafe"].widget = forms.HiddenInput()

    def clean_sku(self) -> str:
        sku: str = self.cleaned_data["sku"]
        other = Product.objects.exclude(pk=self.instance.pk).filter(sku=sku).first()
        if other is not None:
            raise ValidationError(format_html("{} has this SKU already.", link_to(other)))
        return sku

    def clean_slug(self) -> str:
        """Return the typed slug, or make one from the name, with a number if it is taken."""
        typed: str = self.cleaned_data["slug"]
        if typed:
            return typed
        made_from = (self.cleaned_data.get(name, "") for name in ("name", "sku"))
        start = next(filter(None, map(slugify, made_from)), "product")[:90]
        others = Product.objects.exclude(pk=self.instance.pk).filter(slug__startswith=start)
        taken = set(others.values_list("slug", flat=True))
        numbered = (f"{start}-{number}" for number in count(2))
        return next(slug for slug in chain([start], numbered) if slug not in taken)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if self.instance.pk:
            self._check_for_other_changes()
        self._check_unsafe_is_confirmed(data)
        return data

    def changed_fields(self) -> list[str]:
        """The product's fields that the user has changed in this form."""
        return [name for name in self.changed_data if name not in FORM_ONLY_FIELDS]

    def _check_for_other_changes(self) -> None:
        """Add an error to each field that somebody else has changed since this form was opened.

        The row stays locked until the admin's transaction has saved it.
        """
        now = Product.objects.select_for_update(no_key=True).get(pk=self.instance.pk)
        for name in self.changed_fields():
            if name == PICTURE or name not in self.cleaned_data:
                continue
            was, is_now = self._initial_value(name), getattr(now, name)
            if is_now not in (was, self.cleaned_data[name]):  # it may be this form, sent again
                self.add_error(
                    name,
                    f"Somebody has changed this from “{was}” to “{is_now}” since you opened the "
                    "form. Open the form again to see all changes.",
                )
        if now.stock < 0 and self.cleaned_data.get("backstop") and "backstop" in self.changed_data:
            self.add_error(
                "backstop",
                f"{now.stock} units are available. The backstop can be on only from zero up. "
                "Receive the missing units: that switches it on by itself.",
            )

    def _initial_value(self, name: str) -> Any:
        """The field's value when the form was opened; None if the form doesn't send one."""
        bound = self[name]
        posted = bound.field.hidden_widget().value_from_datadict(
            self.data, self.files, bound.html_initial_name
        )
        try:
            return bound.field.clean(posted)
        except ValidationError:
            return None

    def _check_unsafe_is_confirmed(self, data: dict[str, Any]) -> None:
        if "strategy" not in data or not self._chooses_unsafe() or data.get("confirm_unsafe"):
            return
        chosen = strategies.get(data["strategy"])
        self.add_error(
            "strategy",
            f"{chosen.label} oversells: with it, buyers get more units of this product than exist. "
            f"It is here for demonstration. {chosen.how} To choose it, tick “Use it all the same”.",
        )

    def _chooses_unsafe(self) -> bool:
        """Whether the user has just chosen a strategy that oversells."""
        if not self.is_bound or "strategy" not in self.fields:
            return False
        slug = self.data.get(self.add_prefix("strategy"), "")
        chosen = strategies.find(slug)
        if chosen is None or chosen.is_safe:
            return False
        return not self.instance.pk or "strategy" in self.changed_data


def strategy_choices(own: str = "") -> list[tuple[str, Any]]:
    """The choices of strategies, safe ones first; with ``own`` even if it no longer exists."""
    default = strategies.get(conf.default_strategy())
    named: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for each in reversed(strategies.all_strategies()):
        named[each.is_safe].append((each.slug, each.label))
    choices: list[tuple[str, Any]] = [
        ("", f"The shop’s default ({default.label})"),
        ("Safe", named[True]),
        ("These oversell, for demonstration", named[False]),
    ]
    if own and strategies.find(own) is None:
        choices.append((own, f"{own} (no longer exists: choose another)"))
    return choices


def strategies_explained() -> SafeString:
    """The strategies' own descriptions, as a list that the page unfolds."""
    descriptions = format_html_join(
        "",
        "<dt>{}{}</dt><dd>{} <em>{}</em></dd>",
        (
            (each.label, "" if each.is_safe else OVERSELLS, each.how, each.when)
            for each in reversed(strategies.all_strategies())
        ),
    )
    return format_html(
        '<details class="explained"><summary>How each strategy takes stock</summary>'
        "<dl>{}</dl></details>",
        descriptions,
    )
