"""What the admin's pages share: facts that nobody types, and asking before something is done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from django import forms
from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from inventory.exceptions import InventoryError
from inventory.holds import MOST_UNITS
from inventory.models import Product

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

REFUSALS: tuple[type[Exception], ...] = (InventoryError, ValidationError)


MOST_MESSAGES = 5


class GuardedList(ChangeList):
    """Refuses every lookup in the address that the list itself doesn't offer.

    Django's own list takes any field of the model, with any lookup: asked often enough, such as by
    ``?token__startswith=a``, it tells each secret in the table, also to those who may only read.
    """

    def get_filters(self, request: HttpRequest) -> Any:
        found = super().get_filters(request)
        _, _, left_by_the_filters, _, _ = found
        refused = left_by_the_filters.keys() - set(self.model_admin.linked_lookups)
        if refused:
            raise DisallowedModelAdminLookup(f"Filtering by {min(refused)} not allowed")
        return found


class GuardedAdmin(ModelAdmin):
    """The base of every page of the admin: it takes only what its own pages offer."""

    # Lookups that pages of ours link to, beside those of ``list_filter``.
    linked_lookups: tuple[str, ...] = ()

    object_history_template: Any = "admin/inventory/object_history.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return GuardedList

    def get_paginator(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """A list may be too long to be counted; an object's history never is."""
        here = request.resolver_match
        if here and here.url_name == f"{self.opts.app_label}_{self.opts.model_name}_history":
            return Paginator(*args, **kwargs)
        return super().get_paginator(request, *args, **kwargs)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """``?_to_field=`` names no field."""
        return super().get_object(request, object_id, from_field or None)

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        """Objects are named by their primary key alone, and never found by another field."""
        return to_field == self.opts.pk.name

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Refuse ticks of rows that can't be any, as a browser never sends them."""
        try:
            for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(key)
        except ValidationError:
            messages.error(request, "Nothing was done: tick the rows in the list, and try again.")
            return HttpResponseRedirect(request.get_full_path())
        return super().response_action(request, *args, **kwargs)


class OffersWhatFits(GuardedAdmin):
    """Shows only the buttons of what can be done with an object as it is.

    Who comes all the same, from a page that is old by now, is told why not.
    """

    def fits(self, action: str, obj: Any) -> bool:
        """Whether the detail action of that name makes sense for ``obj``."""
        raise NotImplementedError

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        actions = super().get_actions_detail(request, object_id)
        obj = self.get_object(request, str(object_id)) if actions else None
        prefix = f"{self.opts.app_label}_{self.opts.model_name}_"
        return [
            action
            for action in actions
            if obj is not None and self.fits(action.action_name.removeprefix(prefix), obj)
        ]


class FactsAdmin(GuardedAdmin):
    """Rows that are read, not typed. Its lists never count all rows; what happens to a row
    happens by an action that asks first."""

    paginator = InfinitePaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_per_page = 50
    list_filter_submit = True
    list_disable_select_all = True
    compressed_fields = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class OfProductAdmin(FactsAdmin):
    """Facts about a product each, found by its SKU."""

    search_fields = ("product__sku",)
    search_help_text = "SKU, in full"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("product")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        return queryset.filter(product__in=Product.objects.filter(sku=term)), False

    @display(description="Product")
    def product_link(self, fact: Any) -> str:
        return link_to(fact.product)


def object_or_404(model_admin: ModelAdmin, request: HttpRequest, object_id: str) -> Any:
    """The object of a page, for a user who may see it."""
    found = model_admin.get_object(request, object_id)
    if found is None:
        raise Http404(f"There is no {model_admin.opts.verbose_name} {object_id}.")
    if not model_admin.has_view_permission(request, found):
        raise PermissionDenied
    return found


def shortened(secret: str) -> str:
    """Enough of a key to tell it from others on a page, and too little to use it."""
    return f"{secret[: min(8, len(secret) // 4)]}…" if secret else ""


def user_of(request: HttpRequest) -> AbstractBaseUser:
    """The member of staff who asks; the admin lets in nobody else."""
    return cast("AbstractBaseUser", request.user)


def change_url(obj: Model) -> str:
    """The address of the object's page in the admin."""
    name = f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change"
    return reverse(name, args=[quote(str(obj.pk))])


def link_to(obj: Model, words: object = "") -> SafeString:
    """A link to the object's page in the admin; its own name stands for missing words."""
    return format_html('<a class="link" href="{}">{}</a>', change_url(obj), words or obj)


def list_url(model: type[Model], query: str = "") -> str:
    """The address of the model's list in the admin."""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
    return reverse(name) + (f"?{query}" if query else "")


class NothingChanged(str):
    """What is said, as a warning, where somebody has done it before: a colleague, a double click,
    or a form that was sent again. It isn't logged."""

    again: tuple[str, str] | None = None

    @classmethod
    def but(cls, words: str, url: str, link: str) -> NothingChanged:
        """With a link to where it can be done once more, if that is what was meant."""
        said = cls(words)
        said.again = (url, link)
        return said

    def shown(self) -> str:
        """As the page shows it: text, or safe HTML with the link."""
        if self.again is None:
            return str(self)
        return format_html('{} <a class="link" href="{}">{}</a>', self, *self.again)


def clock(instant: datetime) -> str:
    """The time of day in the shop's time zone, with the date if that isn't today."""
    local = timezone.localtime(instant)
    today = local.date() == timezone.localdate()
    return local.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")


class AskForm(forms.Form):
    """What is asked before something is done; without fields, only whether to do it."""


def new_key() -> str:
    return str(uuid4())


class OnceForm(AskForm):
    """Sent twice, by a double click or from an old page, it is done once."""

    key = forms.CharField(initial=new_key, max_length=100, widget=forms.HiddenInput())


class UnitsField(forms.IntegerField):
    """A number of units, 1 to what the database's integer holds."""

    def __init__(self, **options: Any) -> None:
        defaults = {
            "min_value": 1,
            "max_value": MOST_UNITS,
            "widget": UnfoldAdminIntegerFieldWidget(attrs={"inputmode": "numeric"}),
        }
        super().__init__(**{**defaults, **options})


class LineField(forms.CharField):
    """A line of text, up to 200 characters."""

    def __init__(self, **options: Any) -> None:
        defaults = {"max_length": 200, "widget": UnfoldAdminTextInputWidget()}
        super().__init__(**{**defaults, **options})


class OneOfField(forms.ChoiceField):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{"widget": UnfoldAdminSelectWidget(), **options})


class YesField(forms.BooleanField):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{"widget": UnfoldBooleanWidget(), "required": False, **options})


def ask(
    model_admin: ModelAdmin,
    request: HttpRequest,
    obj: Any,
    *,
    title: str,
    will: list[str],
    button: str,
    do: Callable[[dict[str, Any]], str],
    form_class: type[forms.Form] = AskForm,
    initial: dict[str, Any] | None = None,
    danger: bool = False,
    refusals: tuple[type[Exception], ...] = REFUSALS,
) -> HttpResponse:
    """Ask before something is done to ``obj``, then do it, say what was done, and log it.

    ``will`` says line by line what is going to happen; ``do`` gets the form's data and returns
    what it did, in a sentence (NothingChanged: a warning, and not logged). What it refuses is
    shown at the form, and nothing was changed.
    """
    form = form_class(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            done = do(form.cleaned_data)
        except refusals as error:
            words = error.messages if isinstance(error, ValidationError) else [str(error)]
            for line in words:
                form.add_error(None, line)
        else:
            _log_and_say(model_admin, request, obj, done)
            return HttpResponseRedirect(change_url(obj))
    elif request.method == "POST" and not form.fields:
        form.is_valid()
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": title,
        "original": obj,
        "form": form,
        "will": will,
        "button": button,
        "danger": danger,
        "back": change_url(obj),
    }
    return TemplateResponse(request, "admin/inventory/ask.html", context)


def _log_and_say(model_admin: ModelAdmin, request: HttpRequest, obj: Any, done: str) -> None:
    if isinstance(done, NothingChanged):
        messages.warning(request, done.shown())
    else:
        model_admin.log_change(request, obj, done)
        messages.success(request, done)


def ask_for_many(
    model_admin: ModelAdmin,
    request: HttpRequest,
    queryset: QuerySet[Any],
    *,
    action: str,
    title: str,
    will: list[str],
    button: str,
    do: Callable[[Any], str | None],
    danger: bool = False,
    refusals: tuple[type[Exception], ...] = REFUSALS,
) -> HttpResponse | None:
    """The same for the rows that were ticked in a list, each done or refused by itself.

    ``do`` gets an object and returns what it did, None if it has said so itself.
    """
    rows = list(queryset)
    if not rows:
        messages.warning(request, "Nothing was done: what you have ticked isn’t there any more.")
        return None
    if "confirmed" not in request.POST:
        context = {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.opts,
            "title": title,
            "rows": rows,
            "will": will,
            "button": button,
            "danger": danger,
            "action": action,
            "back": list_url(model_admin.model),
        }
        return TemplateResponse(request, "admin/inventory/ask_for_many.html", context)
    said, unchanged, refused = [], [], []
    for obj in rows:
        try:
            done = do(obj)
        except refusals as error:
            refused.append(f"{obj}: {error}")
            continue
        if done is None:
            continue
        if isinstance(done, NothingChanged):
            unchanged.append(done.shown())
        else:
            model_admin.log_change(request, obj, done)
            said.append(done)
    say(request, messages.SUCCESS, said)
    say(request, messages.WARNING, unchanged)
    say(request, messages.ERROR, refused)
    return None


def say(request: HttpRequest, level: int, lines: list[str]) -> None:
    """The first few in full: messages travel in a cookie."""
    for line in lines[:MOST_MESSAGES]:
        messages.add_message(request, level, line)
    if len(lines) > MOST_MESSAGES:
        messages.add_message(request, level, f"And {len(lines) - MOST_MESSAGES} more.")
