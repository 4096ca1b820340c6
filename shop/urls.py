"""The addresses of the shop."""

from django.conf import settings
from django.contrib import admin
from django.urls import path
from django.views.static import serve

from shop import dashboard
from shop.views import basket, catalogue, pages, payments

urlpatterns = [
    path("", catalogue.product_list, name="product-list"),
    path("products/<slug:slug>/", catalogue.product_detail, name="product"),
    path("products/<slug:slug>/stock/", catalogue.product_stock, name="product-stock"),
    path("basket/", basket.basket, name="basket"),
    path("basket/holds/", basket.holds, name="basket-holds"),
    path("basket/holds/<uuid:hold_id>/", basket.hold, name="basket-hold"),
    path("help/stock/", pages.how_we_take_stock, name="help-stock"),
    path("healthz", pages.healthz, name="healthz"),
    # Few and small pictures, uploaded by staff: a web server before the shop may serve them itself.
    path(
        f"{settings.MEDIA_URL.strip('/')}/<path:path>",
        serve,
        {"document_root": settings.MEDIA_ROOT},
    ),
    path("payments/<str:provider>/events/", payments.payment_events, name="payment_events"),
    path("demo-bank/<str:reference>/", payments.demo_bank, name="demo_bank"),
    path("admin/check-stock/", admin.site.admin_view(dashboard.check_now), name="check-stock"),
    path("admin/", admin.site.urls),
]
