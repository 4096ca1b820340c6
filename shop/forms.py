"""Forms of the shop: they check what people type before anything touches the stock."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.db import models
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from unfold.forms import AuthenticationForm

from shop.address import country_choices
from shop.models import Order

PRICE = re.compile(r"[0-9]{1,8}(\.[0-9]{1,2})?")
SELECTED = mark_safe(" selected")
WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,100}\s*")


class QuantityField(forms.IntegerField):
    """A number of units, 1 or more. It takes digits only, since 1.0 or 1e3 may be a slip.

    It has no upper limit: the basket knows how many units there are, and refuses more.
    """

    def __init__(self, **kwargs: Any) -> None:
        errors = {
            "required": "Enter how many you want, such as 1.",
            "invalid": "Quantity: enter a whole number, such as 2.",
            "min_value": "Quantity: enter 1 or more.",
        }
        super().__init__(min_value=1, error_messages=errors, **kwargs)

    def to_python(self, value: Any) -> int | None:
        if value in self.empty_values or not str(value).strip():
            return None
        if not WHOLE_NUMBER.fullmatch(str(value)):
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return int(value)


class SeenPriceField(forms.Field):
    """The price of a unit on the page. A text that isn't a price counts as none."""

    def to_python(self, value: Any) -> Decimal | None:
        return Decimal(value) if PRICE.fullmatch(str(value)) else None


class ReserveForm(forms.Form):
    """``key`` marks one copy of the form: sent twice, it counts once.

    ``seen_price`` only serves to tell the buyer if the price has changed meanwhile.
    """

    INCOMPLETE = "This form was incomplete. Please send it once more."

    quantity = QuantityField()
    seen_price = SeenPriceField(required=False)
    key = forms.UUIDField(error_messages={"required": INCOMPLETE, "invalid": INCOMPLETE})

    @property
    def key_to_send(self) -> UUID:
        """The key for the form on the page: the one that was sent, after an error, or a new one."""
        sent: UUID | None = self.cleaned_data.get("key") if self.is_bound else None
        return sent or uuid4()

    @property
    def typed(self) -> str:
        """The quantity as the buyer typed it, to be shown again."""
        return str(self["quantity"].value() or "")[:100]


class IdsField(forms.Field):
    """Ids, each in a field of the same name. Texts that aren't ids are left out."""

    widget = forms.MultipleHiddenInput

    def to_python(self, value: Any) -> list[UUID]:
        return uuids(value or [])


class ChangeHoldForm(ReserveForm):
    """``seen`` is the quantity on the page, and ``hold`` are the holds behind it."""

    seen = forms.IntegerField(
        min_value=1,
        error_messages=dict.fromkeys(("required", "invalid", "min_value"), ReserveForm.INCOMPLETE),
    )
    hold = IdsField(required=False)


class SearchForm(forms.Form):
    """The search in the list of products. It ignores values that make no sense."""

    SORTS = {
        "name": ("By name", ["name", "pk"]),
        "price": ("Cheapest first", ["price", "name", "pk"]),
        "-price": ("Dearest first", ["-price", "name", "pk"]),
        "new": ("Newest first", ["-created_at", "-pk"]),
    }

    q = forms.CharField(max_length=100, required=False)
    in_stock = forms.BooleanField(required=False)
    sort = forms.ChoiceField(choices=[(key, sort[0]) for key, sort in SORTS.items()])

    @property
    def words(self) -> list[str]:
        """The words to search for."""
        text: str = self.cleaned_data.get("q", "")
        return text.split()

    @property
    def only_in_stock(self) -> bool:
        return bool(self.cleaned_data.get("in_stock"))

    @property
    def order(self) -> list[str]:
        return self.SORTS[self.sorted_by][1]

    @property
    def sorted_by(self) -> str:
        key: str = self.cleaned_data.get("sort", "name")
        return key


def uuids(values: list[str]) -> list[UUID]:
    """The UUIDs among the values."""
    found = []
    for value in values:
        try:
            found.append(UUID(value))
        except ValueError:
            continue
    return found


class TextLinesField(forms.CharField):
    """A text of several lines. Each line end counts once, as browsers count it for maxlength.

    Browsers send it as two characters.
    """

    def to_python(self, value: Any) -> str | None:
        if isinstance(value, str):
            value = value.replace("\r\n", "\n").replace("\r", "\n")
        return super().to_python(value)


def contact_field(field: models.Field[Any, Any], **options: Any) -> forms.Field | None:
    """Django's form field for the model's; for a textarea, a TextLinesField."""
    made = field.formfield(**options)
    if made and isinstance(made.widget, forms.Textarea):
        return field.formfield(form_class=TextLinesField, **options)
    return made


class PlainSelect(forms.Select):
    """A select whose options are written at once.

    Django renders a template for each option. For the countries of Europe that took longer than
    all the rest of the checkout's page (measured).
    """

    def render(
        self,
        name: str,
        value: Any,
        attrs: dict[str, Any] | None = None,
        renderer: Any = None,
    ) -> SafeString:
        chosen = self.format_value(value)
        options = (
            (key, SELECTED if str(key) in chosen else "", label) for key, label in self.choices
        )
        return format_html(
            '<select name="{}"{}>{}</select>',
            name,
            flatatt(self.build_attrs(self.attrs, attrs)),
            format_html_join("", '<option value="{}"{}>{}</option>', options),
        )


class ContactForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic at run time
    """A buyer's details for an order. ``shop.orders`` takes the form's ``instance``."""

    country = forms.ChoiceField(
        widget=PlainSelect(attrs={"autocomplete": "country"}),
        error_messages={
            "required": "Choose a country.",
            "invalid_choice": "We don't send there. Choose one of these countries.",
        },
    )

    class Meta:
        model = Order
        fields = Order.CHECKOUT_FIELDS
        formfield_callback = contact_field
        labels = {"email": "E-mail"}
        help_texts = {
            "email": "Only for news of your order.",
            "street": "Street and house number; a flat or a company in a second line.",
        }
        widgets = {
            "name": forms.TextInput(attrs={"autocomplete": "name"}),
            "email": forms.EmailInput(attrs={"autocomplete": "email"}),
            "street": forms.Textarea(attrs={"autocomplete": "street-address", "rows": 2}),
            "postcode": forms.TextInput(attrs={"autocomplete": "postal-code"}),
            "town": forms.TextInput(attrs={"autocomplete": "address-level2"}),
        }
        error_messages = {
            "name": {"required": "Enter the name to write on the parcel."},
            "email": {
                "required": "Enter your e-mail address, such as ada@example.org.",
                "invalid": "Enter an e-mail address, such as ada@example.org.",
            },
            "street": {"required": "Enter the street and the house number."},
            "postcode": {"required": "Enter the postcode, or a dash if there is none."},
            "town": {"required": "Enter the town."},
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        countries: list[str] = settings.SHIP_TO_COUNTRIES
        country = self.fields["country"]
        assert isinstance(country, forms.ChoiceField)
        country.choices = country_choices(countries)
        country.initial = countries[0]
        self.fields["postcode"].required = self.fields["town"].required = True

    def add_prefix(self, field_name: str) -> str:
        """The field's name on the page. The street is ``address``, as open pages call it."""
        return super().add_prefix("address" if field_name == "street" else field_name)

    def full_clean(self) -> None:
        """Check the form, and let the page put the cursor into the first wrong field."""
        super().full_clean()
        wrong = next((name for name in self.Meta.fields if name in self.errors), None)
        if wrong:
            self.fields[wrong].widget.attrs["autofocus"] = True

    @property
    def typed_fields(self) -> list[forms.BoundField]:
        """The fields that a buyer fills in."""
        return [self[name] for name in self.Meta.fields]

    @property
    def typed(self) -> dict[str, Any]:
        """The texts that the buyer typed, right or wrong, by field."""
        sent = {field.name: field.data for field in self.typed_fields} if self.is_bound else {}
        return {name: data for name, data in sent.items() if data is not None}

    @property
    def is_begun(self) -> bool:
        """Whether the buyer has typed anything that could get lost."""
        return any(self.initial.values()) or any(self.typed.values())


class CheckoutForm(ContactForm):
    """The buyer's details, and the holds and the total that the page showed.

    ``key`` marks one copy of the form: sent twice, it makes one order.
    """

    INCOMPLETE = {"required": ReserveForm.INCOMPLETE, "invalid": ReserveForm.INCOMPLETE}

    hold = IdsField(required=False)
    ended = IdsField(required=False)  # holds that the page called over in time
    # More digits than an order's total can have: too large a basket is refused by its own name.
    seen_total = forms.DecimalField(max_digits=20, decimal_places=2, error_messages=INCOMPLETE)
    key = forms.UUIDField(error_messages=INCOMPLETE)

    @property
    def is_incomplete(self) -> bool:
        """Whether a value is missing that the page itself should have sent."""
        return bool(self.errors.keys() & {"hold", "seen_total", "key"})

    @property
    def key_to_send(self) -> UUID:
        """The key for the form on the page: the one that was sent, after an error, or a new one."""
        sent: UUID | None = self.cleaned_data.get("key") if self.is_bound else None
        return sent or uuid4()

    @property
    def holds_sent(self) -> list[UUID]:
        """The holds that the page showed when the buyer sent the form, lapsed ones too."""
        sent = self.cleaned_data if self.is_bound else {}
        return [*sent.get("hold", []), *sent.get("ended", [])]


class LoginForm(AuthenticationForm):  # type: ignore[misc]
    """Staff's login. It rejects a name that is too long for a user or for a recorded attempt."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        longest = User._meta.get_field("username").max_length
        self.fields["username"].validators.append(MaxLengthValidator(longest))
