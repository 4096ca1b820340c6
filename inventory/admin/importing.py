"""What imports and exports share: CSV alone, a file imported once, and all of it or nothing."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from import_export.admin import ExportMixin, ImportMixin
from import_export.formats.base_formats import CSV
from unfold.contrib.import_export.forms import ImportForm

from inventory.admin.base import list_url

CSV_ONLY = [CSV]


class CsvForm(ImportForm):
    """Says what is expected in the file."""

    expected = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["import_file"].help_text = self.expected


class CsvAdmin(ImportMixin, ExportMixin):
    """CSV alone. A double click on "confirm", or going back to it, imports the file once."""

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_import_formats(self) -> list[Any]:
        return CSV_ONLY

    def get_export_formats(self) -> list[Any]:
        return CSV_ONLY

    def add_data_read_fail_error_to_form(self, form: Any, e: Exception) -> None:
        form.add_error(
            "import_file", "This is no CSV file in UTF-8, with commas between the cells."
        )

    def export_action(self, request: HttpRequest) -> HttpResponse:
        """Export what the list shows; back to the list where its filters make no sense."""
        try:
            response: HttpResponse = super().export_action(request)
            return response
        except IncorrectLookupParameters:
            messages.error(request, "Nothing was exported: choose the filters in the list again.")
            return HttpResponseRedirect(list_url(self.model))

    def process_import(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        try:
            # It ends with removing the uploaded file. Only one of several can do that; the
            # others fail at it, and what they did is rolled back.
            with transaction.atomic():
                response: HttpResponse = super().process_import(request, **kwargs)
                return response
        except FileNotFoundError:
            messages.warning(request, "This file has been imported already; choose it again.")
            return HttpResponseRedirect(list_url(self.model))

    def process_result(self, result: Any, request: HttpRequest) -> HttpResponse:
        problems = [
            f"Row {row.number}: {error}"
            for row in result.invalid_rows
            for error in row.error.messages
        ]
        problems += [
            f"Row {number}: {error.error}"
            for number, errors in result.row_errors()
            for error in errors
        ]
        problems += [str(error.error) for error in result.base_errors]
        if problems:
            transaction.set_rollback(True)
            messages.error(request, "Nothing was imported. " + " ".join(problems[:10]))
            return HttpResponseRedirect(list_url(self.model))
        response: HttpResponse = super().process_result(result, request)
        return response
