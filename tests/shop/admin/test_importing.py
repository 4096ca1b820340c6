"""Imports and exports of CSV: a preview of old → new, and an error for every wrong cell."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.db.models.functions import Now
from django.test import Client, override_settings
from django.urls import reverse

from inventory import import_files
from inventory.locking import lock_product
from inventory.models import ImportFile, Product, StockMovement
from inventory.reservations import confirm, release, reserve
from tests.concurrency import at_once, wait_until_somebody_waits_for_a_lock
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import Staff, fields_of, words

pytestmark = pytest.mark.django_db

STOCK, PRODUCTS = "inventory_stockmovement", "inventory_product"


def upload(admin: Client, what: str, *lines: str) -> Any:
    """Upload a file of these lines; return the answer: the preview, or the errors."""
    file = SimpleUploadedFile("file.csv", "\n".join(lines).encode(), "text/csv")
    url = reverse(f"admin:{what}_import")
    return admin.post(url, {"import_file": file, "format": "0", "resource": ""})


def confirm_form(preview: Any) -> dict[str, str]:
    return fields_of(preview.content.decode(), "import_file_name")


def finish(admin: Client, what: str, preview: Any) -> Any:
    form = confirm_form(preview)
    return admin.post(reverse(f"admin:{what}_process_import"), form, follow=True)


def stocks() -> dict[str, int]:
    return dict(Product.objects.values_list("sku", "stock"))


# Stock


class TestStock:
    def test_a_preview_and_then_signed_movements(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        make_product(10, sku="LAMP")
        make_product(4, sku="POT")
        preview = upload(
            admin, STOCK, "sku,units,reason,note", "LAMP,12,DELIVERY,Note 17", "POT,-3,damage,"
        )
        html = preview.content.decode()
        assert "10 → 22" in html
        assert "4 → 1" in html
        assert stocks() == {"LAMP": 10, "POT": 4}
        assert StockMovement.objects.count() == 2
        finish(admin, STOCK, preview)
        assert stocks() == {"LAMP": 22, "POT": 1}
        movement = StockMovement.objects.get(product__sku="LAMP", units=12)
        assert (movement.note, str(movement.made_by)) == ("Note 17", "staff")
        assert LogEntry.objects.count() == 2

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ("LAMP,abc", "“abc” is not a number of units"),
            ("LAMP,", "“” is not a number of units"),
            ("LAMP,1.5", "“1.5” is not a number of units"),
            ("LAMP,0", "“0” is not a number of units"),
            ("LAMP,1e3", "“1e3” is not a number of units"),
            ("LAMP,-5", "Only 3 of LAMP available, 5 asked for."),
            ("LAMP,9999999999", "can’t have more than"),
            ("LAMP,87893287498", "is not a number of units"),
            ("LAMP,٣", "is not a number of units"),
            ("NONE,5", "There is no product with the SKU NONE."),
            (",5", "The SKU is missing."),
            ("POT,1\nPOT,2", "POT is in this file twice."),
        ],
    )
    def test_rows_that_are_refused_and_named(
        self, admin: Client, make_product: MakeProduct, row: str, said: str
    ) -> None:
        make_product(3, sku="LAMP")
        make_product(0, sku="POT")
        preview = upload(admin, STOCK, "sku,units", "POT,1" if "POT" not in row else "LAMP,1", row)
        html = preview.content.decode()
        assert said in html
        assert row.split(",")[1].split("\n")[0] in html.split("</thead>")[1]  # as it came
        assert "import_file_name" not in html  # there is nothing to confirm
        assert stocks() == {"LAMP": 3, "POT": 0}

    def test_what_was_sold_between_the_preview_and_the_import_counts(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        """Nothing of the file is imported if one row can't be."""
        lamp = make_product(5, sku="LAMP")
        make_product(0, sku="POT")
        preview = upload(admin, STOCK, "sku,units", "POT,7", "LAMP,-4")
        confirm(reserve(lamp, 3, buyer="A").pk)
        response = finish(admin, STOCK, preview)
        assert "Nothing was imported." in words(response)[0]
        assert "Only 2 of LAMP available, 4 asked for." in words(response)[0]
        assert stocks() == {"LAMP": 2, "POT": 0}

    def test_a_file_is_imported_once(self, admin: Client, make_product: MakeProduct) -> None:
        make_product(1, sku="LAMP")
        preview = upload(admin, STOCK, "sku,units", "LAMP,5")
        [done] = words(finish(admin, STOCK, preview))
        assert done == "The file was imported: 1 new, 0 changed, 0 as before."
        [said] = finish(admin, STOCK, preview).context["messages"]
        assert said.level == messages.WARNING
        assert "already: 1 new, 0 changed, 0 as before. Nothing was imported this time" in str(said)
        assert stocks() == {"LAMP": 6}

    def test_a_file_that_was_refused_can_be_confirmed_later(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        lamp = make_product(5, sku="LAMP")
        preview = upload(admin, STOCK, "sku,units", "LAMP,-4")
        hold = reserve(lamp, 3, buyer="A")
        assert "Nothing was imported." in words(finish(admin, STOCK, preview))[0]
        release(hold.pk)
        assert "The file was imported" in words(finish(admin, STOCK, preview))[0]
        assert stocks() == {"LAMP": 1}

    @pytest.mark.parametrize(
        "lines",
        [
            ("sku,stock", "LAMP,5"),
            ("name,units", "LAMP,5"),
            ("sku,units,price", "LAMP,5,1"),
        ],
    )
    def test_other_columns(
        self, admin: Client, make_product: MakeProduct, lines: tuple[str, ...]
    ) -> None:
        make_product(1, sku="LAMP")
        html = upload(admin, STOCK, *lines).content.decode()
        assert "The file needs the columns sku and units" in html
        assert "Traceback" not in html
        assert stocks() == {"LAMP": 1}

    def test_a_file_of_a_spreadsheet(self, admin: Client, make_product: MakeProduct) -> None:
        """The file begins with a byte-order mark."""
        make_product(1, sku="LAMP")
        assert "1 → 4" in upload(admin, STOCK, "\ufeffsku,units", "LAMP,3").content.decode()

    @pytest.mark.parametrize(
        ("what", "lines"),
        [
            (STOCK, ("sku,units,reason,note", "LAMP\0,3,,")),
            (STOCK, ("sku,units,reason,note", "LAMP,3,,a\0b")),
            (PRODUCTS, ("sku,name", "LAMP\0,Lamp")),
            (PRODUCTS, ("sku,name", "LAMP,La\0mp")),
        ],
    )
    def test_a_nul_in_the_file_is_refused_where_it_is_read(
        self, admin: Client, make_product: MakeProduct, what: str, lines: tuple[str, str]
    ) -> None:
        """The middleware that refuses it elsewhere reads no files."""
        make_product(1, sku="LAMP")
        preview = upload(admin, what, *lines)
        assert preview.status_code == 200
        assert "Null characters are not allowed." in preview.content.decode()
        assert "import_file_name" not in preview.content.decode()
        assert stocks() == {"LAMP": 1}

    def test_an_empty_file_and_a_binary_one(self, admin: Client) -> None:
        for content in (b"", b"sku,units\n", b"\x89PNG\x00\xff"):
            file = SimpleUploadedFile("file.csv", content)
            form = {"import_file": file, "format": "0", "resource": ""}
            response = admin.post(reverse(f"admin:{STOCK}_import"), form)
            assert response.status_code == 200
            assert "import_file_name" not in response.content.decode()
        assert "The file must be CSV in UTF-8" in response.content.decode()

    def test_the_export_can_not_be_taken_for_absolute_numbers(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        make_product(10, sku="LAMP")
        url = reverse(f"admin:{STOCK}_export")
        form = fields_of(admin.get(url).content.decode(), "format")
        csv = admin.post(url, {**form, "format": "0"}).content.decode()
        header, row = csv.splitlines()
        assert header.startswith("sku,units,reason,note,stock_before,stock_after,made_by")
        assert row.startswith("LAMP,10,DELIVERY,,0,10,")


class TestBetweenTheTwoRequests:
    """The database keeps the previewed file until it is confirmed, for its user alone."""

    def test_previewed_on_one_machine_and_confirmed_on_another(
        self,
        admin: Client,
        make_product: MakeProduct,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The second machine has its own temporary files, media and cache."""
        make_product(5, sku="LAMP")
        form = confirm_form(upload(admin, STOCK, "sku,units", "LAMP,7"))
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        cache.clear()
        with override_settings(MEDIA_ROOT=tmp_path):
            response = admin.post(reverse(f"admin:{STOCK}_process_import"), form, follow=True)
        assert words(response) == ["The file was imported: 1 new, 0 changed, 0 as before."]
        assert stocks() == {"LAMP": 12}

    @pytest.mark.parametrize(
        "name",
        ["", "x", "/etc/passwd", "../../etc/passwd", "0" * 32, "{kept}", "a" * 10_000],
    )
    def test_a_name_that_no_preview_gave(self, admin: Client, name: str, tmp_path: Path) -> None:
        """The import reads nothing, and deletes nothing."""
        kept = Path(tempfile.gettempdir()) / f"kept-{uuid4()}.csv"
        kept.write_text("sku,units\nLAMP,5\n")
        try:
            for given in {name.format(kept=kept), name.format(kept=kept.name)}:
                response = admin.post(
                    reverse(f"admin:{STOCK}_process_import"),
                    {"import_file_name": given, "format": "0", "resource": "x"},
                    follow=True,
                )
                assert "this file isn’t yours" in words(response)[0]
                assert response.redirect_chain[0][0] == reverse(f"admin:{STOCK}_import")
            assert kept.exists()
        finally:
            kept.unlink(missing_ok=True)

    def test_somebody_elses_file(self, staff: Staff, make_product: MakeProduct) -> None:
        make_product(1, sku="LAMP")
        ada, bob = staff(name="ada"), staff(name="bob")
        preview = upload(ada, STOCK, "sku,units", "LAMP,5")
        assert "this file isn’t yours" in words(finish(bob, STOCK, preview))[0]
        assert stocks() == {"LAMP": 1}
        finish(ada, STOCK, preview)
        assert stocks() == {"LAMP": 6}

    def test_a_file_for_another_list(self, admin: Client, make_product: MakeProduct) -> None:
        make_product(1, sku="LAMP")
        preview = upload(admin, STOCK, "sku,units", "LAMP,5")
        form = confirm_form(preview)
        response = admin.post(reverse(f"admin:{PRODUCTS}_process_import"), form, follow=True)
        assert "this file isn’t yours" in words(response)[0]

    @pytest.mark.parametrize("format", ["", "x", "7", "-1", "9" * 30])
    def test_other_fields_of_the_form_decide_nothing(
        self, admin: Client, make_product: MakeProduct, format: str
    ) -> None:
        make_product(1, sku="LAMP")
        form = confirm_form(upload(admin, STOCK, "sku,units", "LAMP,5"))
        form |= {"format": format, "resource": format, "original_file_name": format}
        admin.post(reverse(f"admin:{STOCK}_process_import"), form)
        assert stocks() == {"LAMP": 6}

    def test_a_file_is_kept_for_a_day(self, admin: Client, make_product: MakeProduct) -> None:
        make_product(1, sku="LAMP")
        preview = upload(admin, STOCK, "sku,units", "LAMP,5")
        assert import_files.delete_old() == 0
        ImportFile.objects.update(uploaded_at=Now() - timedelta(hours=24))
        assert "more than a day ago" in words(finish(admin, STOCK, preview))[0]
        assert import_files.delete_old() == 1
        assert stocks() == {"LAMP": 1}

    def test_nothing_is_kept_of_a_file_that_can_not_be_confirmed(self, admin: Client) -> None:
        upload(admin, STOCK, "sku,units", "NONE,5")
        upload(admin, STOCK, "sku,stock", "NONE,5")
        assert not ImportFile.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_double_click_imports_once(staff: Staff, make_product: MakeProduct) -> None:
    lamp = make_product(1, sku="LAMP")
    admin = staff()
    form = confirm_form(upload(admin, STOCK, "sku,units", "LAMP,5"))
    url = reverse(f"admin:{STOCK}_process_import")
    clients = [Client() for _ in range(3)]
    for client in clients:
        client.cookies = admin.cookies
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():  # nobody can finish before all three have begun
            lock_product(lamp.pk)
            clicks = pool.submit(at_once, [partial(client.post, url, form) for client in clients])
            wait_until_somebody_waits_for_a_lock(number=3)
        assert [answer.status_code for answer in clicks.result()] == [302] * 3
    assert stocks() == {"LAMP": 6}


# Products


HEADER = "sku,name,price,low_stock_threshold,max_per_buyer,strategy,is_active,description"


class TestProducts:
    def test_a_preview_and_then_what_was_changed(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        lamp = make_product(10, sku="LAMP", name="Lamp", price=Decimal("10.00"))
        preview = upload(admin, PRODUCTS, "sku,name,price", "LAMP,Lamp,12.50", "KITE,Kite,7")
        html = preview.content.decode()
        assert "10.00 → 12.50" in html
        assert "Kite" in html
        lamp.refresh_from_db()
        assert lamp.price == Decimal("10.00")
        assert Product.objects.count() == 1
        confirm(reserve(lamp, 4, buyer="A").pk)
        finish(admin, PRODUCTS, preview)
        lamp.refresh_from_db()
        assert (lamp.price, lamp.stock) == (Decimal("12.50"), 6)
        kite = Product.objects.get(sku="KITE")
        assert (kite.slug, kite.stock, kite.is_active) == ("kite", 0, True)

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ("LAMP,Lamp,-5,0,,,yes,", "“-5” is not an amount"),
            ("LAMP,Lamp,,0,,,yes,", "“” is not an amount"),
            ("LAMP,Lamp,abc,0,,,yes,", "“abc” is not an amount"),
            ('LAMP,Lamp,"2,5",0,,,yes,', "“2,5” is not an amount"),
            ("LAMP,Lamp,1e3,0,,,yes,", "“1e3” is not an amount"),
            ("LAMP,Lamp,NaN,0,,,yes,", "“NaN” is not an amount"),
            ("LAMP,Lamp,1,-5,,,yes,", "“-5” is not a whole number from 0"),
            ("LAMP,Lamp,1,,,,yes,", "“” is not a whole number from 0"),
            ("LAMP,Lamp,1,1.5,,,yes,", "“1.5” is not a whole number from 0"),
            ("LAMP,Lamp,1,0,0,,yes,", "“0” is not a whole number from 1"),
            ("LAMP,Lamp,1,0,,,maybe,", "“maybe” is not an answer"),
            ("LAMP,Lamp,1,0,,,,", "“” is not an answer"),
            ("LAMP,Lamp,1,0,,nonsense,yes,", "There is no strategy “nonsense”"),
            ("LAMP,Lamp,1,0,,combine,yes,", "did you mean combined?"),
            ("LAMP,Lamp,1,0,,naive,yes,", "naive oversells"),
            ("LAMP,,1,0,,,yes,", "cannot be blank"),
            (",Lamp,1,0,,,yes,", "The SKU is missing"),
            ("LAMP,A,1,0,,,yes,\nLAMP,B,1,0,,,yes,", "LAMP is in this file twice"),
        ],
    )
    def test_rows_that_are_refused_and_named(
        self, admin: Client, make_product: MakeProduct, row: str, said: str
    ) -> None:
        lamp = make_product(3, sku="LAMP", name="Lamp")
        html = upload(admin, PRODUCTS, HEADER, row).content.decode()
        assert said in html
        assert "import_file_name" not in html
        lamp.refresh_from_db()
        assert (lamp.name, lamp.price) == ("Lamp", Decimal("19.90"))

    def test_a_strategy_that_is_gone_keeps_no_other_column_from_being_imported(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        lamp = make_product(3, sku="LAMP", strategy="of_last_year")
        preview = upload(admin, PRODUCTS, "sku,strategy,price", "LAMP,of_last_year,5")
        finish(admin, PRODUCTS, preview)
        lamp.refresh_from_db()
        assert (lamp.strategy, lamp.price) == ("of_last_year", Decimal("5.00"))

    def test_stock_is_no_column_of_products(self, admin: Client, make_product: MakeProduct) -> None:
        make_product(3, sku="LAMP")
        html = upload(admin, PRODUCTS, "sku,stock", "LAMP,99").content.decode()
        assert "Import it as stock movements" in html
        assert stocks() == {"LAMP": 3}

    def test_what_is_exported_can_be_imported_again(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        make_product(3, sku="LAMP", name="=1+1", max_per_buyer=2, description="Two\nlines")
        url = reverse(f"admin:{PRODUCTS}_export")
        form = fields_of(admin.get(url).content.decode(), "format")
        csv = admin.post(url, {**form, "format": "0"}).content.decode()
        assert "stock" not in csv.splitlines()[0].replace("low_stock", "")
        assert ",=1+1" not in csv  # a spreadsheet would compute it
        preview = upload(admin, PRODUCTS, csv.replace("1+1", "=1+1"))
        assert "Skipped" in preview.content.decode()


def test_an_auditor_exports_and_does_not_import(staff: Staff, make_product: MakeProduct) -> None:
    make_product(3, sku="LAMP")
    auditor = staff("auditor")
    for what in (STOCK, PRODUCTS):
        assert auditor.get(reverse(f"admin:{what}_export")).status_code == 200
        assert upload(auditor, what, "sku,units", "LAMP,5").status_code == 403
        assert auditor.post(reverse(f"admin:{what}_process_import")).status_code == 403
