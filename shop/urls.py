"""The addresses of the shop."""

from django.conf import settings
from django.contrib import admin
from django.urls import path

from shop.admin import dashboard
from shop.middleware import outages
from shop.views import (
    basket,
    catalogue,
    checkout,
    demo_bank,
    errors,
    metrics,
    orders,
    outbox,
    pages,
    payments,
)

handler400 = errors.bad_request
handler403 = errors.forbidden
handler404 = errors.not_found
handler500 = outages.server_error

urlpatterns = [
    path("", catalogue.product_list, name="product-list"),
    path("products/<slug:slug>/", catalogue.product_detail, name="product"),
    path("products/<slug:slug>/stock/", catalogue.product_stock, name="product-stock"),
    path("basket/", basket.basket, name="basket"),
    path("basket/holds/", basket.holds, name="basket-holds"),
    path("basket/holds/<uuid:hold_id>/", basket.hold, name="basket-hold"),
    path("checkout/", checkout.checkout, name="checkout"),
    path("orders/", orders.order_list, name="orders"),
    path("orders/<slug:token>/", orders.order, name="order"),
    path("orders/<slug:token>/payment/", orders.payment, name="order-payment"),
    path("orders/<slug:token>/contact/", orders.contact, name="order-contact"),
    path("orders/<slug:token>/cancellation/", orders.cancellation, name="order-cancellation"),
    path("help/stock/", pages.how_we_take_stock, name="help-stock"),
    path("metrics", metrics.metrics, name="metrics"),
    path("livez", pages.livez, name="livez"),
    path("healthz", pages.healthz, name="healthz"),
    path(f"{settings.MEDIA_URL.strip('/')}/<path:path>", pages.picture, name="picture"),
    path("payments/<str:provider>/events/", payments.payment_events, name="payment-events"),
    path("demo-bank/<str:reference>/", demo_bank.customer_page, name="demo-bank"),
    path("demo-bank/<str:reference>/dispute/", demo_bank.dispute, name="demo-bank-dispute"),
    path(
        "demo-bank/charges/<int:pk>/",
        admin.site.admin_view(demo_bank.dashboard),
        name="demo-bank-charge",
    ),
    path("demo/outbox/", outbox.mails, name="outbox"),
    path("demo/outbox/<int:pk>/", outbox.mail, name="outbox-mail"),
    path("demo/outbox/<int:pk>/html/", outbox.mail_html, name="outbox-mail-html"),
    path("admin/check-stock/", admin.site.admin_view(dashboard.check_now), name="check-stock"),
    path("admin/search/", admin.site.admin_view(dashboard.search)),
    path("admin/", admin.site.urls),
]
