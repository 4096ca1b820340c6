"""The form of a product: it knows what it showed, and writes only what was changed since."""

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
    OneOfField,
    UnitsField,
    link_to,
)
from inventory.models import Product

PICTURE = "picture"
NO_FIELDS_OF_IT = ("initial_stock", "confirm_unsafe")
NOT_COMPARED = (PICTURE, *NO_FIELDS_OF_IT)  # with what the form showed
OVERSELLS = mark_safe(' <span class="unsafe">oversells</span>')


class ProductForm(forms.ModelForm):  # type: ignore[type-arg]
    """Knows what it showed when it was opened, and so writes only what was changed since."""

    initial_stock = UnitsField(
        label="Units in stock",
        min_value=0,
        required=False,
        help_text="How many you have. They are on sale at once; empty: none yet.",
    )
    confirm_unsafe = forms.BooleanField(
        label="Use it all the same", required=False, widget=UnfoldBooleanWidget()
    )
    strategy = OneOfField(
        required=False,
        help_text="How stock is taken. The default is right for every product of a shop.",
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
            "slug": "The end of it, in small letters and hyphens. Empty: made from the name.",
            "low_stock_threshold": "You are told when fewer units than this are available. "
            "0: never. Baskets that come and go tell it once a day at most, until units are "
            "received.",
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
        if "price" in self.fields:  # of "19,90" a field for numbers alone would send nothing
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
        """As it was typed, else made from the name; of two such products one gets a number."""
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
            self._check_what_is_there_now()
        self._check_unsafe_is_meant(data)
        return data

    def changed_fields(self) -> list[str]:
        """The product's fields that were changed in this form."""
        return [name for name in self.changed_data if name not in NO_FIELDS_OF_IT]

    def _check_what_is_there_now(self) -> None:
        """Somebody else may have saved the product since this form was opened, or sold of it.

        The row stays locked until the admin's transaction has saved it.
        """
        now = Product.objects.select_for_update(no_key=True).get(pk=self.instance.pk)
        for name in self.changed_fields():
            if name == PICTURE or name not in self.cleaned_data:
                continue
            was, is_now = self._shown(name), getattr(now, name)
            if is_now not in (was, self.cleaned_data[name]):  # it may be this form, sent again
                self.add_error(
                    name,
                    f"Somebody has changed this from “{was}” to “{is_now}” since you opened the "
                    "form. Open it again to see what they did.",
                )
        if now.stock < 0 and self.cleaned_data.get("backstop") and "backstop" in self.changed_data:
            self.add_error(
                "backstop",
                f"{now.stock} are available: it can be switched on at zero or more. Receiving what "
                "is missing switches it on by itself.",
            )

    def _shown(self, name: str) -> Any:
        """What the form showed in that field when it was opened; None if it doesn't tell."""
        bound = self[name]
        posted = bound.field.hidden_widget().value_from_datadict(
            self.data, self.files, bound.html_initial_name
        )
        try:
            return bound.field.clean(posted)
        except ValidationError:
            return None

    def _check_unsafe_is_meant(self, data: dict[str, Any]) -> None:
        if "strategy" not in data or not self._chooses_unsafe() or data.get("confirm_unsafe"):
            return
        chosen = strategies.get(data["strategy"])
        self.add_error(
            "strategy",
            f"{chosen.label} is here to be seen failing: with it this product will be sold more "
            f"often than there are units. {chosen.how} Tick “Use it all the same” if you mean it.",
        )

    def _chooses_unsafe(self) -> bool:
        """Whether this form switches a strategy on that oversells."""
        if not self.is_bound or "strategy" not in self.fields:
            return False
        slug = self.data.get(self.add_prefix("strategy"), "")
        chosen = strategies.find(slug)
        if chosen is None or chosen.is_safe:
            return False
        return not self.instance.pk or "strategy" in self.changed_data


def strategy_choices(own: str = "") -> list[tuple[str, Any]]:
    """The strategies by name, those that oversell apart; and ``own``, also if it is gone."""
    default = strategies.get(conf.default_strategy())
    named: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for each in reversed(strategies.all_strategies()):
        named[each.is_safe].append((each.slug, each.label))
    choices: list[tuple[str, Any]] = [
        ("", f"The shop’s default ({default.label})"),
        ("Safe", named[True]),
        ("Oversell, and are here to be seen failing", named[False]),
    ]
    if own and strategies.find(own) is None:
        choices.append((own, f"{own} (there is none of that name any more: choose another)"))
    return choices


def strategies_explained() -> SafeString:
    """What each strategy says of itself, to be unfolded."""
    each_one = format_html_join(
        "",
        "<dt>{}{}</dt><dd>{} <em>{}</em></dd>",
        (
            (each.label, "" if each.is_safe else OVERSELLS, each.how, each.when)
            for each in reversed(strategies.all_strategies())
        ),
    )
    return format_html(
        '<details class="explained"><summary>How stock is taken, in each strategy</summary>'
        "<dl>{}</dl></details>",
        each_one,
    )
