"""Imports and exports of products and stock movements, as CSV. A wrong cell is an error.

Stock comes in as signed movements, never as absolute numbers. An absolute number would undo the
sales between the export and the import.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.text import slugify
from import_export import fields, resources, widgets
from import_export.results import Error

from inventory import stock, strategies
from inventory.database import atomic
from inventory.exceptions import InsufficientStock, InvalidQuantity, UnknownStrategy
from inventory.holds import MOST_UNITS
from inventory.models import Product, StockMovement
from inventory.snapshots import available_now

MOST_ROWS = 2000  # of stock movements: buyers of these products wait until all rows are written

Row = dict[str, Any]


def cell_text(row: Row, column: str) -> str:
    """The cell without the spaces around it; empty if the file lacks the column."""
    return str(row.get(column) or "").strip()


class AmountWidget(widgets.Widget):
    def clean(self, value: Any, row: Row | None = None, **kwargs: Any) -> Decimal:
        if not re.fullmatch(r"\d{1,8}(\.\d{1,2})?", str(value or "").strip(), re.ASCII):
            raise ValueError(f"“{value or ''}” is not an amount. Write it as in 19.90.")
        return Decimal(str(value).strip())


class NumberWidget(widgets.Widget):
    """A whole number, at least ``least``. With ``may_be_empty``, an empty cell is None."""

    def __init__(self, least: int, *, may_be_empty: bool = False) -> None:
        super().__init__()
        self.least = least
        self.may_be_empty = may_be_empty

    def clean(self, value: Any, row: Row | None = None, **kwargs: Any) -> int | None:
        cell = str("" if value is None else value).strip()
        if not cell and self.may_be_empty:
            return None
        number = int(cell) if re.fullmatch(r"\d{1,10}", cell, re.ASCII) else -1
        if not self.least <= number <= MOST_UNITS:
            raise ValueError(f"“{cell}” is not a whole number from {self.least} to {MOST_UNITS}.")
        return number


class YesNoWidget(widgets.Widget):
    ANSWERS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

    def clean(self, value: Any, row: Row | None = None, **kwargs: Any) -> bool:
        answer = self.ANSWERS.get(str("" if value is None else value).strip().lower())
        if answer is None:
            raise ValueError(f"“{value or ''}” is not an answer. Write yes or no.")
        return answer

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> str:
        return "yes" if value else "no"


class RowPreview:
    """The preview of a row: its cells before and after the import."""

    def __init__(self, resource: Any, instance: Any, new: bool) -> None:
        self.resource, self.new = resource, new
        self.old = None if new else resource.cells_of(instance)

    def compare_with(self, resource: Any, instance: Any) -> None:
        self.now = resource.cells_of(instance)

    def as_html(self) -> list[str]:
        """The cells as text, which the template escapes."""
        if self.old is None:
            return self.now
        return [
            now if now == old else f"{old or '(empty)'} → {now or '(empty)'}"
            for old, now in zip(self.old, self.now, strict=True)
        ]


class BadFile(Exception):
    """The whole file can't be imported. The message says what a right file is like."""


class PlainError(Error):
    """An error without a traceback, for the page."""

    traceback = ""


class OneRowPerSku(resources.ModelResource):
    """Rejects a file with wrong columns, and a second row of the same SKU."""

    def check_file(self, dataset: Any) -> None:
        """Raise BadFile if the file as a whole can't be imported."""
        raise NotImplementedError

    def get_error_result_class(self) -> type[Error]:
        return PlainError

    def before_import(self, dataset: Any, **kwargs: Any) -> None:
        try:
            self.check_file(dataset)
        except BadFile:
            headers = dataset.headers
            dataset.wipe()  # so that no row gets errors of its own
            dataset.headers = headers
            raise

    def import_data(self, dataset: Any, dry_run: bool = False, **kwargs: Any) -> Any:
        self.seen: set[str] = set()
        self.is_preview = dry_run
        return super().import_data(dataset, dry_run=dry_run, **kwargs)

    def before_import_row(self, row: Row, **kwargs: Any) -> None:
        for column, cell in row.items():
            if "\0" in str(cell):
                raise ValidationError({column or "row": "Null characters are not allowed."})
        sku = cell_text(row, "sku")
        if not sku:
            raise ValidationError({"sku": "The SKU is missing."})
        if sku in self.seen:
            raise ValidationError({"sku": f"{sku} is in this file twice."})
        self.seen.add(sku)
        row["sku"] = sku


class ProductResource(OneRowPerSku):
    """All fields of a product but its stock. An unknown SKU is a new product."""

    price = fields.Field("price", "price", widget=AmountWidget())
    low_stock_threshold = fields.Field(
        "low_stock_threshold", "low_stock_threshold", widget=NumberWidget(0)
    )
    max_per_buyer = fields.Field(
        "max_per_buyer", "max_per_buyer", widget=NumberWidget(1, may_be_empty=True)
    )
    is_active = fields.Field("is_active", "is_active", widget=YesNoWidget())

    class Meta:
        model = Product
        import_id_fields = ["sku"]
        fields = [
            "sku",
            "name",
            "slug",
            "description",
            "price",
            "low_stock_threshold",
            "max_per_buyer",
            "strategy",
            "is_active",
        ]
        clean_model_instances = True
        skip_unchanged = True
        report_skipped = True

    def get_diff_class(self) -> type[RowPreview]:
        return RowPreview

    def get_diff_headers(self) -> list[str]:
        return list(self._meta.fields)

    def cells_of(self, product: Product) -> list[str]:
        values = [getattr(product, name) for name in self._meta.fields]
        return ["" if value is None else str(value) for value in values]

    def check_file(self, dataset: Any) -> None:
        headers = set(dataset.headers or [])
        if "sku" not in headers:
            raise BadFile("The column sku is missing. It names the product of each row.")
        unknown = headers - set(self._meta.fields)
        if unknown & {"stock", "units_received"}:
            raise BadFile("Stock can’t be imported with products. Import it as stock movements.")
        if unknown:
            raise BadFile(
                f"There is no column {', '.join(sorted(map(str, unknown)))}. "
                f"The columns are {', '.join(self._meta.fields)}."
            )

    def before_import_row(self, row: Row, **kwargs: Any) -> None:
        super().before_import_row(row, **kwargs)
        if "slug" in row and not cell_text(row, "slug"):
            del row["slug"]

    def after_init_instance(self, instance: Product, new: bool, row: Row, **kwargs: Any) -> None:
        instance._was = {name: getattr(instance, name) for name in self._meta.fields}  # type: ignore[attr-defined]
        if new:
            instance.slug = slugify(row["sku"])

    def validate_instance(
        self, instance: Product, import_validation_errors: Any = None, **kwargs: Any
    ) -> None:
        super().validate_instance(instance, import_validation_errors, **kwargs)
        if instance.strategy != instance._was["strategy"]:  # type: ignore[attr-defined]
            check_strategy(instance.strategy)

    def save_instance(self, instance: Product, is_create: bool, row: Row, **kwargs: Any) -> None:
        if self.is_preview:
            return
        if is_create:
            instance.save()
        else:  # others may have moved stock since the row was read
            was = instance._was  # type: ignore[attr-defined]
            changed = [name for name in was if getattr(instance, name) != was[name]]
            instance.save(update_fields=changed)

    def save_m2m(self, instance: Product, row: Row, **kwargs: Any) -> None:
        pass


def check_strategy(slug: str) -> None:
    """Raise ValidationError for a strategy that a file can't choose. An empty slug is allowed."""
    try:
        if not slug or strategies.get(slug).is_safe:
            return
    except UnknownStrategy as error:
        raise ValidationError({"strategy": str(error)}) from error
    raise ValidationError({"strategy": f"{slug} oversells. Only the product’s form can choose it."})


class StockMovementResource(OneRowPerSku):
    """Units received (12) or removed (-3), a row per product; all rows or none."""

    sku = fields.Field("product__sku", "sku", readonly=True)
    made_by = fields.Field("made_by__username", "made_by", readonly=True)

    class Meta:
        model = StockMovement
        fields = [
            "sku",
            "units",
            "reason",
            "note",
            "stock_before",
            "stock_after",
            "made_by",
            "made_at",
        ]
        export_order = fields
        import_id_fields: list[str] = []
        force_init_instance = True

    COLUMNS = ("sku", "units", "reason", "note")

    def get_import_fields(self) -> list[Any]:
        return []

    def get_user_visible_fields(self) -> list[Any]:
        return [self.fields[name] for name in self.COLUMNS]

    def get_export_queryset(self) -> Any:
        return StockMovement.objects.select_related("product", "made_by")

    def get_diff_class(self) -> type[RowPreview]:
        return RowPreview

    def get_diff_headers(self) -> list[str]:
        # The file's own columns keep their names: a row with errors is shown as it is in the file.
        return ["sku", "product", "units", "stock now → then", "reason", "note"]

    def cells_of(self, movement: StockMovement) -> list[str]:
        return [
            movement.product.sku,
            movement.product.name,
            f"{movement.units:+d}",
            f"{movement.stock_before} → {movement.stock_after}",
            movement.get_reason_display(),
            movement.note,
        ]

    def import_data(self, dataset: Any, dry_run: bool = False, **kwargs: Any) -> Any:
        self.by = kwargs.get("user")
        return super().import_data(dataset, dry_run=dry_run, **kwargs)

    def check_file(self, dataset: Any) -> None:
        headers = {str(header) for header in dataset.headers or []}
        if not {"sku", "units"} <= headers or headers - set(self.COLUMNS):
            raise BadFile(
                "The file needs the columns sku and units, and may have reason and note. Units are "
                "the units received (12) or removed (-3), not the stock itself."
            )
        if len(dataset) > MOST_ROWS:
            raise BadFile(
                f"The file has {len(dataset)} rows. At most {MOST_ROWS} can be imported at once."
            )
        skus = {str(cell).strip() for cell in dataset["sku"]}
        askable = {sku for sku in skus if "\0" not in sku}  # the others' rows are refused below
        found = Product.objects.filter(sku__in=askable, is_exhibit=False)
        self.products = {product.sku: product for product in found}
        if not self.is_preview:
            self._sort_by_product(dataset)

    def _sort_by_product(self, dataset: Any) -> None:
        """Sort the rows in the order of locks, since each row locks its product until the end."""
        sku_column = dataset.headers.index("sku")

        def product_id(row: Any) -> int:
            product = self.products.get(str(row[sku_column]).strip())
            return product.pk if product else 0

        headers, rows = dataset.headers, sorted(dataset, key=product_id)
        dataset.wipe()
        dataset.headers = headers
        dataset.extend(rows)

    def import_instance(self, instance: StockMovement, row: Row, **kwargs: Any) -> None:
        sku, cell = row["sku"], cell_text(row, "units")
        if sku not in self.products:
            raise ValidationError({"sku": f"There is no product with the SKU {sku}."})
        if not re.fullmatch(r"[+-]?\d{1,10}", cell, re.ASCII) or int(cell) == 0:
            raise ValidationError(
                {"units": f"{sku}: “{cell}” is not a number of units. Write it as in 12 or -3."}
            )
        instance.product = self.products[sku]
        instance.units = int(cell)
        instance.reason = self._reason(cell_text(row, "reason"))
        instance.note = cell_text(row, "note")
        if len(instance.note) > 200:
            raise ValidationError({"note": f"{sku}: the note is longer than 200 characters."})

    def _reason(self, cell: str) -> StockMovement.Reason:
        for reason in StockMovement.Reason:
            if cell.lower() in (reason.value.lower(), reason.label.lower()):
                if reason is StockMovement.Reason.REPAIR:
                    break
                return reason
        if not cell:
            return StockMovement.Reason.IMPORT
        known = [each.value for each in StockMovement.Reason if each.value != "REPAIR"]
        raise ValidationError({"reason": f"“{cell}” is not a reason. Write {', '.join(known)}."})

    def validate_instance(self, *args: Any, **kwargs: Any) -> None:
        errors = args[1] if len(args) > 1 else kwargs.get("import_validation_errors")
        if errors:
            raise ValidationError(errors)

    def save_instance(
        self, instance: StockMovement, is_create: bool, row: Row, **kwargs: Any
    ) -> None:
        try:
            if self.is_preview:
                self._preview_move(instance)
            else:
                with atomic():
                    self._move(instance)
        except (InsufficientStock, InvalidQuantity) as error:
            raise ValidationError({"units": str(error)}) from error

    def _preview_move(self, movement: StockMovement) -> None:
        """Work out the movement's effect without locks, so that buyers don't wait."""
        product, units = movement.product, movement.units
        now = available_now(product.pk, needed=-units)
        if -units > now.units:
            raise InsufficientStock(product.sku, -units, now.units)
        if max(product.units_received, now.stock) + units > MOST_UNITS:
            raise InvalidQuantity(f"{product.sku} can’t have more than {MOST_UNITS} units.")
        movement.stock_before, movement.stock_after = now.stock, now.stock + units

    def _move(self, movement: StockMovement) -> None:
        details: dict[str, Any] = {
            "reason": StockMovement.Reason(movement.reason),
            "note": movement.note,
            "by": self.by,
        }
        if movement.units > 0:
            made = stock.receive(movement.product, movement.units, **details)
        else:
            made = stock.remove(movement.product, -movement.units, **details)
        movement.pk = made.pk
        movement.stock_before, movement.stock_after = made.stock_before, made.stock_after

    def save_m2m(self, instance: StockMovement, row: Row, **kwargs: Any) -> None:
        pass
